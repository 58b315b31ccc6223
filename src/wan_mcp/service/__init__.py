"""The job service that every front uses: submit, wait, cancel, describe, repair."""
