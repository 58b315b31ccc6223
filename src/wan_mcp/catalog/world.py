"""The world of an embedded model: what it can show at all, and the words that it was trained on.

The words are not written down a second time: they are the whole-word pieces in the model's own tokenizer, which reads
every other word letter by letter. A prompt is split and folded here as that tokenizer does it.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from wan_mcp.schema.enums import Frozen

__all__ = ["EMBEDDED", "World", "unknown_words"]

EMBEDDED = Path(__file__).parents[1] / "embedded"
"""The folder of the weights that come with the package."""
WORD_BEGINS = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes in front of a piece that begins a word."""
WORD = re.compile(r"\w+|[^\w\s]")


class World(Frozen):
    """What a model knows, where that is less than what people ask for."""

    knows: str = Field(description="What it can show or tell, as the end of the sentence 'it knows only …'.")
    tokenizer: str | None = Field(
        default=None,
        description="File of its weights whose whole words are those that it knows; none if it reads no prompts.",
    )


def unknown_words(world: World, folder: str, prompt: str) -> tuple[str, ...]:
    """Return the words of a prompt that a model does not know, each once, as they were written.

    `folder` is the one of its weights below `EMBEDDED`. A single letter says nothing, and neither do marks of
    punctuation; signs and pictures that the tokenizer has no piece for count as words.

    Raises:
        OSError, ValueError: the file of the tokenizer is missing or damaged.
    """
    if world.tokenizer is None:
        return ()
    known = _words_in(EMBEDDED / folder / world.tokenizer)
    found: dict[str, str] = {}
    for word in _words_of(prompt):
        folded = _folded(word)
        if folded and folded not in known and not _is_nothing(folded):
            found.setdefault(folded, word)
    return tuple(found.values())


@cache
def _words_in(file: Path) -> frozenset[str]:
    tokenizer: Any = json.loads(file.read_text(encoding="utf-8"))
    pieces = (piece for piece, _ in tokenizer["model"]["vocab"])
    return frozenset(piece.removeprefix(WORD_BEGINS) for piece in pieces if piece.startswith(WORD_BEGINS))


def _words_of(prompt: str) -> Iterator[str]:
    composed = unicodedata.normalize("NFC", prompt)  # a mark stays with its letter
    return (found[0] for found in WORD.finditer(composed.replace("_", " ")))


def _folded(word: str) -> str:
    """Return a word as the tokenizer folds it: compatible letters, without accents, in small letters."""
    plain = unicodedata.normalize("NFKD", word)
    return "".join(each for each in plain if unicodedata.category(each) != "Mn").lower()


def _is_nothing(folded: str) -> bool:
    if folded.isascii():
        return len(folded) == 1 and not folded.isdigit()
    return all(unicodedata.category(each)[0] in "PZC" for each in folded)
