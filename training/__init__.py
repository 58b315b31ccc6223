"""How the embedded model `wan-mini` was made: one module per stage, run from the repository root (see README.md).

Nothing here is imported by the server; nothing here imports the server.
"""
