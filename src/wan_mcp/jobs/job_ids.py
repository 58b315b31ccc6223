"""The ids of jobs: short enough to type, and too many to guess."""

import secrets

__all__ = ["new_job_id"]

# Base32 without the letters that people and models mix up; 20 of them are 100 random bits.
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 20


def new_job_id() -> str:
    """Return an id that cannot be guessed."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
