"""What a model is: its manifest, and what follows from it without torch."""
