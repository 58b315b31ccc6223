"""Names that people can read for the files of results: the day, the first words of the prompt, the seed.

Letters and digits of every script stay, and all else becomes a hyphen, so that a prompt can neither leave the folder
nor name a device, hide the file, or be taken for an option.
"""

import re
import unicodedata
from datetime import datetime
from pathlib import Path

from wan_mcp.schema.jobs import Artifact, Job

__all__ = ["numbered", "readable_name"]

READ = 400  # characters of the prompt that are looked at
MAX_CHARACTERS, MAX_BYTES = 40, 100
"""Of the words: file systems allow names of 255 bytes, encrypted ones of 143; the rest of a name takes up to 40."""
NO_WORDS = re.compile(r"-{2,}")


def readable_name(job: Job, artifact: Artifact) -> str:
    """Return a file name for a result, such as `2026-11-28_a-red-star_s42.mp4`; the day is that of the job here."""
    day = datetime.fromtimestamp(job.created_at).astimezone().strftime("%Y-%m-%d")
    words = _words(getattr(job.plan, "prompt_asked", "") or "") or job.plan.kind.value
    return f"{day}_{words}_s{artifact.seed}{Path(artifact.path).suffix}"


def numbered(name: str, number: int) -> str:
    """Return the name for the `number`th file that would be called so, from 1."""
    path = Path(name)
    return name if number == 1 else f"{path.stem}-{number}{path.suffix}"


def _words(prompt: str) -> str:
    """Return the first words of a prompt, joined by hyphens; none if it has no letter and no digit."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", prompt[:READ]).casefold())
    # Marks belong to the letter before them: many scripts write vowels so.
    kept = "".join(each if each.isalnum() or unicodedata.category(each).startswith("M") else "-" for each in plain)
    words = NO_WORDS.sub("-", kept).strip("-")
    if not any(each.isalnum() for each in words):
        return ""
    if len(words) <= MAX_CHARACTERS and len(words.encode()) <= MAX_BYTES:
        return words
    cut = words[:MAX_CHARACTERS].encode()[:MAX_BYTES].decode(errors="ignore")
    whole, hyphen, _ = cut.rpartition("-")
    return (whole if hyphen and words[len(cut) : len(cut) + 1] != "-" else cut).strip("-")
