"""The engine's process: claim jobs, run them, report progress. Imports no torch."""
