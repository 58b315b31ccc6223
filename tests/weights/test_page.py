"""docs/models.md explains every code that a download can fail with."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "models.md"
WEIGHTS = ROOT / "src" / "wan_mcp" / "weights"


def test_every_reason_why_weights_cannot_be_had_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    source = "".join(file.read_text(encoding="utf-8") for file in sorted(WEIGHTS.glob("*.py")))
    codes = set(re.findall(r'(?:WeightsUnavailable|code, words = |return)\(?\s*"([a-z]+_[a-z_]+)"', source))
    assert len(codes) > 10
    assert not [code for code in codes if f"`{code}`" not in page]
