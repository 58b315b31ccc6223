"""The text tokenizer: one piece per word of the world, single characters for everything else.

A trained Unigram collapses to near-characters on templated captions, so the vocabulary is written down instead. Any
text tokenises: an unknown word falls back to its characters, a character outside printable ASCII to `<unk>`.
Layout as in T5: `<pad>` 0, `</s>` 1, `<unk>` 2. Run `python -m training.tokenizer` to write and show it.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from smallworld import phrases

# The fixed text length (tokens) of training, and therefore of every generation: padding is attended to.
TEXT_TOKENS = 48
_WORD_SCORE = -3.0
_CHARACTER_SCORE = -12.0


def _phrases(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _phrases(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _phrases(item)


def words() -> list[str]:
    """Every word of `smallworld.phrases`, split as the tokenizer splits, sorted so that ids are stable."""
    found: set[str] = set()
    for name in phrases.__all__:
        for phrase in _phrases(getattr(phrases, name)):
            found.update(re.findall(r"[a-z0-9]+", phrase.lower()))
    return sorted(word for word in found if len(word) > 1)


def build(opening: str | None = None) -> PreTrainedTokenizerFast:
    """A fresh tokenizer; the same every time. With `opening` (the captioner's "<s>"), every text begins with it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(opening, 0.0)] if opening else []
    pieces += [("▁" + word, _WORD_SCORE) for word in words()]
    pieces += [("▁" + mark, _WORD_SCORE) for mark in ",.;:-!?a"]
    pieces += [("▁", _CHARACTER_SCORE)]
    # Slightly different scores keep the segmentation unique.
    pieces += [(chr(code), _CHARACTER_SCORE - 0.001 * code) for code in range(33, 127) if not 65 <= code <= 90]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace("’", "'")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[^\w\s]"), behavior="isolated"),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    first = f"{opening} " if opening else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}$A </s>",
        pair=f"{first}$A </s> $B </s>",
        special_tokens=[("</s>", 1), *([(opening, 3)] if opening else [])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token=opening,
        model_max_length=512,
        padding_side="right",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/training/tokenizer"))
    parser.add_argument("--smoke", action="store_true", help="accepted for symmetry; this stage is always quick")
    options = parser.parse_args()
    tokenizer = build()
    tokenizer.save_pretrained(options.out)
    print(f"{len(tokenizer)} pieces in {options.out}")  # noqa: T201
    for text in ("A small red star drifts to the left over a navy background.", "Löwe, 3 cats"):
        print(text, "->", tokenizer.tokenize(text))  # noqa: T201


if __name__ == "__main__":
    main()
