"""The engine's process: claim, run, report. Imports no torch."""
