"""The examples of docs/video-api.md run as they are on the page, with the embedded model."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ending_engines
from tests.support.http_fronts import Running, running
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "video-api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
FILES = (("star.mp4", "star.jpg"), ("ring.mp4",), ("green.mp4",))
HEADS = {".mp4": b"ftyp", ".jpg": b"\xff\xd8\xff"}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the real engine."""
    home = tmp_path_factory.mktemp("page") / "home"
    with ending_engines(home), running(Settings(home=home, device="cpu", min_free_mb=1)) as server:
        yield server


def test_the_page_has_these_examples() -> None:
    assert [language for language, _ in EXAMPLES] == ["bash", "python", "python"]
    assert all(ADDRESS in code for _, code in EXAMPLES)


@pytest.mark.parametrize("number", range(len(FILES)))
def test_an_example_makes_what_it_says(front: Running, tmp_path: Path, number: int) -> None:
    language, code = EXAMPLES[number]
    if language == "bash" and not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("the example needs curl and jq")
    start = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-W", "ignore", "-c"]
    ran = subprocess.run(
        [*start, code.replace(ADDRESS, front.url)],
        cwd=tmp_path,
        env=os.environ | {"OPENAI_API_KEY": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for name in FILES[number]:
        assert HEADS[Path(name).suffix] in (tmp_path / name).read_bytes()[:12]
