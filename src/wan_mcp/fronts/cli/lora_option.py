"""The value of --lora: an adapter written as one word."""

import re
from contextlib import suppress
from pathlib import Path

import typer

from wan_mcp.schema.requests import LoraRequest

__all__ = ["LORA_OPTION", "parse_lora"]

FORM = "NAME|PATH[:SCALE][@EXPERT]"
WRITTEN = re.compile(r"(?P<file>[^:@].*?)(?::(?P<scale>[^:@/]*))?(?:@(?P<expert>[A-Za-z0-9_-]+))?")


def parse_lora(written: str) -> LoraRequest:
    """Parse an adapter written as `style`, `style:0.8` or `./style.safetensors:0.8@low-noise`.

    A word with a slash, or one that ends in .safetensors, is a path; any other is the name of a file in the home's
    loras folder. A file name that is not in the current folder is looked up there as well (`LoraFiles`).

    Raises:
        typer.BadParameter: It does not have that form, or its scale is not a number.
    """
    found = WRITTEN.fullmatch(written)
    if found is None:
        raise typer.BadParameter(f"'{written}' does not have the form {FORM}")
    file, scale = found["file"], found["scale"]
    try:
        strength = 1.0 if scale is None else float(scale)
    except ValueError as error:
        raise typer.BadParameter(f"the scale '{scale}' of '{written}' is not a number; write {FORM}") from error
    if "/" in file or file.lower().endswith(".safetensors"):
        place = Path(file)
        with suppress(RuntimeError):  # no such user, or none with a home directory: it is a name like any other
            place = place.expanduser()
        return LoraRequest(path=str(place.absolute()), scale=strength, expert=found["expert"])
    return LoraRequest(name=file, scale=strength, expert=found["expert"])


LORA_OPTION = {"parser": parse_lora, "metavar": FORM}
