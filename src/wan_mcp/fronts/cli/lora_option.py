"""The value of --lora: an adapter in one word, as people write it elsewhere."""

import re
from pathlib import Path

import typer

from wan_mcp.schema.requests import LoraRequest

__all__ = ["LORA_OPTION", "parse_lora"]

FORM = "NAME|PATH[:SCALE][@EXPERT]"
WRITTEN = re.compile(r"(?P<file>[^:@].*?)(?::(?P<scale>[^:@/]*))?(?:@(?P<expert>[A-Za-z0-9_-]+))?")


def parse_lora(written: str) -> LoraRequest:
    """The adapter that a word like `style`, `style:0.8`, `./style.safetensors:0.8@low-noise` means.

    A word with a slash, or one that ends in .safetensors, is a path; any other is the name of a file in the home's
    loras folder.

    Raises:
        typer.BadParameter: it has not that form, or its scale is no number.
    """
    found = WRITTEN.fullmatch(written)
    if found is None:
        raise typer.BadParameter(f"'{written}' is no {FORM}")
    file, scale = found["file"], found["scale"]
    try:
        strength = 1.0 if scale is None else float(scale)
    except ValueError as error:
        raise typer.BadParameter(f"the scale '{scale}' of '{written}' is no number; write {FORM}") from error
    if "/" in file or file.endswith(".safetensors"):
        return LoraRequest(path=str(Path(file).expanduser().absolute()), scale=strength, expert=found["expert"])
    return LoraRequest(name=file, scale=strength, expert=found["expert"])


LORA_OPTION = {"parser": parse_lora, "metavar": FORM}
