"""Options with an empty value, left out of the whole command line before it is parsed (see `schema.blanks`)."""

from collections.abc import Iterator
from typing import Any

from wan_mcp.settings import KEPT_BLANKS

__all__ = ["without_blank_options"]


def without_blank_options(command: Any, args: list[str]) -> Iterator[str]:
    """Yield the words of a command line for `command` or one of its subcommands, without options of empty value.

    Arguments, flags and the settings in `KEPT_BLANKS` stay as they are.
    """
    rest = iter(args)
    for word in rest:
        if word == "--":
            yield from (word, *rest)
            return
        flag, equals, value = word.partition("=")
        option = _option(command, flag)
        if option is None:
            yield word
            subcommand = getattr(command, "commands", {}).get(word)
            if subcommand is not None:
                yield from without_blank_options(subcommand, list(rest))
        elif equals:
            if value or option.name in KEPT_BLANKS:
                yield word
        else:
            following = next(rest, None)
            if following or following is None or option.name in KEPT_BLANKS:
                yield from (word, *([] if following is None else [following]))


def _option(command: Any, flag: str) -> Any:
    """Return the option of that flag, if it is one that takes a value."""
    if not flag.startswith("-"):
        return None
    return next(
        (
            parameter
            for parameter in command.params
            if flag in parameter.opts and parameter.param_type_name == "option" and not parameter.is_flag
        ),
        None,
    )
