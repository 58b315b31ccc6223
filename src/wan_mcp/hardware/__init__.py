"""What this machine has: its GPU, its memory."""
