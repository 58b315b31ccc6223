"""The hardware of this machine: its GPU and its memory."""
