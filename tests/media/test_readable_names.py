"""Names of saved results: readable in any script, and safe whatever the prompt holds."""

import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.media import IMAGE
from wan_mcp.media.readable_names import numbered, readable_name
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, Plan

NOON = 1_795_867_200.0  # 2026-11-28 12:00 UTC
DAY = datetime.fromtimestamp(NOON).astimezone().strftime("%Y-%m-%d")  # of the time zone here


def job_of(plan: Plan, created_at: float) -> Job:
    """A running job; nothing else of it is in a name."""
    facts: dict[str, Any] = {"id": "j", "state": JobState.RUNNING, "plan": plan, "created_at": created_at}
    return Job.model_construct(**facts)


def name_of(prompt: str, created_at: float = NOON) -> str:
    facts: dict[str, Any] = {"prompt_asked": prompt}
    job = job_of(ImagePlan.model_construct(**facts), created_at)
    values: dict[str, Any] = {"uri": IMAGE.uri, "mime_type": IMAGE.mime_type, "bytes": 1, "width": 1, "height": 1}
    return readable_name(job, Artifact(**values, seed=42, path=f"/home/media/images/{IMAGE.file_name}"))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Red star", "red-star"),
        ("  A red, RED star!  ", "a-red-red-star"),
        ("Ein süßer Käse", "ein-süsser-käse"),
        ("赤い星が動く", "赤い星が動く"),
        ("красная звезда", "красная-звезда"),
        ("लाल तारा", "लाल-तारा"),
        ("نجمة حمراء", "نجمة-حمراء"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full-width"),
        ("../../etc/passwd", "etc-passwd"),
        ("-rf ~", "rf"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("nul\0byte\nnew\x1b[31mline", "nul-byte-new-31mline"),
        ("\u202egpj.exe", "gpj-exe"),
        (".hidden", "hidden"),
        ("star\u200b\u200d ✨ 2", "star-2"),
        ("😀😀", "image"),
        ("", "image"),
        ("...", "image"),
        ("\u0301\u0301", "image"),
        ("\ud800 half", "half"),
        ("a large orange triangle moves down over a white background", "a-large-orange-triangle-moves-down-over"),
        ("x" * 5000, "x" * 40),
        ("字" * 5000, "字" * 33),
    ],
)
def test_a_name_is_the_day_the_words_and_the_seed(prompt: str, words: str) -> None:
    assert name_of(prompt) == f"{DAY}_{words}_s42.png"


@pytest.mark.parametrize("letter", ["é", "字", "𝔞", "ा", "\u0301", "🙂", "\U0001f1e9", "ﷺ"])
@pytest.mark.parametrize("length", [1, 39, 40, 41, 100, 1000])
def test_any_name_is_a_name_on_any_disk(letter: str, length: int) -> None:
    name = name_of("a" + letter * length)
    assert len(name.encode()) <= 143  # the limit of encrypted file systems, the lowest of all
    assert Path(name).name == name
    assert name == unicodedata.normalize("NFC", name)
    assert not set(name) & set('/\\:*?"<>|\0')
    assert name.isprintable()


def test_a_second_file_of_a_name_is_numbered() -> None:
    assert [numbered("a.b_s1.mp4", number) for number in (1, 2, 13)] == ["a.b_s1.mp4", "a.b_s1-2.mp4", "a.b_s1-13.mp4"]


def test_what_has_no_prompt_is_named_for_its_kind() -> None:
    nothing: dict[str, Any] = {}
    job = job_of(CaptionPlan.model_construct(**nothing), NOON)
    values: dict[str, Any] = {"uri": "x", "mime_type": "x", "bytes": 1, "width": 1, "height": 1, "path": "/x.txt"}
    assert readable_name(job, Artifact(**values, seed=0)) == f"{DAY}_caption_s0.txt"
