"""What every front does with jobs: submit, wait, cancel, describe, repair."""
