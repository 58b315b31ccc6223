"""The part of a manifest that turns a caption type, a length and options into an instruction.

All words that a model reads are data of its manifest. Knows nothing of jobs or of torch; the
planner asks it for the instruction, the engine for how to decode.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from wan_mcp.errors import BadRequest
from wan_mcp.schema.enums import Frozen
from wan_mcp.text import quoted, shortened

__all__ = ["CaptionSpec", "CheckSpec", "Instruction"]

VALUE = "{value}"
LENGTH = "{length}"
MAX_VALUE_LENGTH = 100  # characters of an option's value, e.g. of a person's name
WORDS = re.compile(r"\s*\+?(\d+)(?:\.0*)?\s*")  # a number of words, also as JSON and spreadsheets write it: 80.0
MAX_DIGITS = 9  # of a number of words


class Instruction(Frozen):
    """The instruction of a caption type, in variants chosen by the length.

    A plain text in a manifest stands for `any` and, if it contains {length}, for `sized` as well.
    """

    any: str = Field(description="When the caption may have any length.")
    sized: str | None = Field(default=None, description="With {length}, e.g. 'short'.")
    words: str | None = Field(default=None, description="With {length}, a number of words.")

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return {"any": given, "sized": given if LENGTH in given else None}

    @model_validator(mode="after")
    def _have_a_place(self) -> Self:
        if any(variant is not None and LENGTH not in variant for variant in (self.sized, self.words)):
            raise ValueError("'sized' and 'words' must contain {length}")
        return self


class CheckSpec(Frozen):
    """How a captioner compares a result with its prompt.

    One that answers questions is asked. Of one that only describes, the words of its caption are compared with those
    of the prompt; they are given here, each with the other wordings of the same.
    """

    ask: str | None = Field(
        default=None, description="Instruction with {prompt} and {kind}: what is missing? 'nothing' if nothing is."
    )
    score: str | None = Field(
        default=None, description="Question with {prompt} and {kind} whose answer is yes or no, for a score."
    )
    nouns: dict[str, tuple[str, ...]] = Field(default={}, description="What a picture shows.")
    adjectives: dict[str, tuple[str, ...]] = Field(default={}, description="What stands before a noun.")
    motions: dict[str, tuple[str, ...]] = Field(
        default={},
        description="left, right, up, down, growing, shrinking, spinning, bouncing or still: measured in the frames, "
        "over a plain background.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        asks = self.ask is not None and self.score is not None
        if asks == bool(self.nouns) or (self.ask is None) != (self.score is None):
            raise ValueError("a check needs either 'ask' and 'score', or 'nouns'")
        return self


class CaptionSpec(Frozen):
    """The instructions of a captioner, and its decoding."""

    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0, description="Of sampling; 0 always takes the likeliest token.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Share of the likely tokens that are sampled.")
    top_k: int | None = Field(default=None, ge=1, description="Number of the likely tokens that are sampled.")
    num_beams: int = Field(default=1, ge=1, description="Beams of the search; more than 1 does not sample.")
    max_pixels: int | None = Field(
        default=None, ge=1, description="A larger image is scaled down to this area before the model sees it."
    )
    system_prompt: str | None = Field(default=None, description="System message before the instruction.")
    content: Literal["parts", "text"] = Field(
        default="parts",
        description="Message content for the template of a 'chat' captioner: parts (image, text), or text alone.",
    )
    types: dict[str, Instruction] = Field(default={}, description="Caption types; the first one is the default.")
    lengths: dict[str, str] = Field(
        default={}, description="Lengths, each with the words that request it; no words: any. The first is the default."
    )
    words: tuple[int, int] | None = Field(
        default=None, description="Smallest and largest number of words that may be requested instead of a length."
    )
    options: dict[str, str] = Field(
        default={}, description="Sentences that may be added; one with {value} is requested as 'option=value'."
    )
    free_prompt: bool = Field(default=False, description="True if the caller may write the instruction.")
    video_frames: int = Field(
        default=1, ge=1, le=32, description="Frames of a video that are looked at together, if no frame is named."
    )
    video_prompt: str = Field(default="", description="Words with {frames} before the instruction, for several frames.")
    check: CheckSpec | None = Field(default=None, description="How it compares a result with its prompt.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_beams > 1 and self.temperature > 0:
            raise ValueError("num_beams above 1 requires temperature 0: beam search does not sample")
        unsized = [name for name, words in self.types.items() if self.words and words.words is None]
        if unsized:
            raise ValueError(f"'words' requires a variant 'words' of these types: {', '.join(unsized)}")
        return self

    @property
    def samples(self) -> bool:
        """True if another seed can produce another caption."""
        return self.temperature > 0

    def instruction(self, model: str, kind: str | None, length: str | None) -> str | None:
        """Return the instruction for a caption type and a length; None if the model uses none.

        Raises:
            BadRequest: `model` has no such type or length; the message names those that it has.
        """
        if kind is not None or self.types:
            kind = _named("caption_type", kind, self.types, model)
        if length is not None and self.words is not None and (given := WORDS.fullmatch(length)):
            return self._in_words(given[1], kind)
        if length is not None or self.lengths:
            more = f"a number of words from {self.words[0]} to {self.words[1]}" if self.words else ""
            length = _named("length", length, self.lengths, model, more)
        if kind is None:
            return None
        words, chosen = self.lengths.get(length or "", ""), self.types[kind]
        if words and chosen.sized is not None:
            return chosen.sized.replace(LENGTH, words)
        return chosen.any.replace(LENGTH, words)

    def _in_words(self, digits: str, kind: str | None) -> str | None:
        smallest, largest = self.words or (0, 0)
        # Not of any length: Python refuses to read an integer of thousands of digits.
        if len(digits) > MAX_DIGITS or not smallest <= int(digits) <= largest:
            shown = shortened(digits, MAX_VALUE_LENGTH)
            raise BadRequest(f"length {shown} words is not allowed; it must be {smallest} to {largest}")
        chosen = self.types[kind].words if kind else None
        return chosen and chosen.replace(LENGTH, str(int(digits)))

    def sentences(self, model: str, options: Iterable[str]) -> list[str]:
        """Return the sentences of the options that a caller names, in their order.

        Raises:
            BadRequest: `model` has no such option, or its value is missing, too long or not allowed.
        """
        sentences = []
        for option in options:
            name, given, value = option.partition("=")
            key = _named("extra_option", name, self.options, model)
            value = " ".join(value.split())
            if (VALUE in self.options[key]) != bool(value):
                want = f"'{key}=…'" if VALUE in self.options[key] else f"'{key}' without '='"
                raise BadRequest(f"extra_option {quoted(option)} is not allowed; write {want}")
            if given and len(value) > MAX_VALUE_LENGTH:
                raise BadRequest(
                    f"the value of extra_option '{key}' is {len(value)} characters long; "
                    f"the limit is {MAX_VALUE_LENGTH}"
                )
            sentences.append(self.options[key].replace(VALUE, value))
        return sentences

    def listed_options(self) -> list[str]:
        """Return the options as a caller writes them."""
        return [f"{name}=…" if VALUE in sentence else name for name, sentence in self.options.items()]


def _named(what: str, asked: str | None, names: Mapping[str, object], model: str, more: str = "") -> str:
    """Return the name that matches regardless of case and punctuation; the first one if none was requested."""
    if asked is None:
        return next(iter(names))
    plain = {_plain(name): name for name in names}
    if _plain(asked) in plain:
        return plain[_plain(asked)]
    has = ", ".join([*sorted(names), *([more] if more else [])])
    has = f"available: {has}" if has else "it has none; omit it"
    raise BadRequest(f"model '{model}' has no {what} {quoted(asked)}; {has}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
