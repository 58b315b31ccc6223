"""Weights from the hub: downloaded lazily, resumable to the byte, verified, and locked to one commit.

`local` says what is here, without a network and without importing the hub's client; `fetch`
brings what is missing. Files lie in the hub client's own cache, so that other programs share them.
"""
