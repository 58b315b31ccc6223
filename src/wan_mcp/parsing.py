"""JSON and TOML as Python values: whatever is wrong with a text is a ValueError.

Python's own functions raise other errors for some texts, such as those that are nested too deeply for them. Files and
rows may be damaged or foreign, and must cost no more than themselves.
"""

import json
import tomllib
from collections.abc import Callable
from typing import Any

__all__ = ["parse_json", "parse_toml"]

TOO_DEEP = "it is nested too deeply"


def parse_json(text: str | bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a JSON text; `parse_constant` as in `json.loads`.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        ValueError: It is not TOML, nested too deeply, or has a number that is too long.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
