"""The root of the command tree: words in the order that the parser needs, and help with the commands first."""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperGroup

from wan_mcp.fronts.cli.blank_options import without_blank_options
from wan_mcp.settings import Settings

__all__ = ["CommandTree", "DefaultVerb", "ListByDefault", "settings_first"]

COMMANDS = (
    "generate",
    "caption",
    "remix",
    "again",
    "jobs",
    "models",
    "pull",
    "compile",
    "bench",
    "doctor",
    "setup",
    "engine",
    "cluster",
    "http",
    "token",
    "stdio",
)
"""The order in which help lists them; others follow."""
HELP = ("-h", "--help")


class CommandTree(TyperGroup):
    """A root whose options may stand anywhere; `--option ''` means that an option was not given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line with the settings before the command and without its blank options."""
        return super().parse_args(ctx, list(without_blank_options(self, settings_first(self, args))))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, the usual ones first."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: COMMANDS.index(name) if name in COMMANDS else len(COMMANDS))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options, then the settings."""
        self.format_commands(ctx, formatter)
        settings: list[tuple[str, str]] = []
        options: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (settings if parameter.name in Settings.model_fields else options).append(record)
        with formatter.section("Options"):
            formatter.write_dl(options)
        with formatter.section("Settings, before or after the command"):
            formatter.write_dl(settings)


class DefaultVerb(TyperGroup):
    """A group of which the first word may be left out: `models NAME` is `models show NAME`."""

    verb = "show"

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command of a word, or the default one with the word as its first argument."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [self.verb, *args]
        return super().resolve_command(ctx, args)


class ListByDefault(TyperGroup):
    """A group that takes the options of its command `list` as well: `jobs --limit 5` is `jobs list --limit 5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, with `list` in front of options."""
        lists = bool(args) and args[0].startswith("-") and args[0] not in HELP
        return super().parse_args(ctx, ["list", *args] if lists else args)


def settings_first(root: Any, words: Iterable[str]) -> list[str]:
    """Return a command line with the root's options before the command, wherever they were given.

    An option that a command has itself stays with it, and so does everything after `--`.
    """
    arranged: list[str] = []
    command, place, rest = root, None, iter(words)
    for word in rest:
        if word == "--":
            return [*arranged, word, *rest]
        flag, equals, _ = word.partition("=")
        own = None if flag in HELP else _option(command, flag)
        moved = place is not None and own is None and flag not in HELP
        option = _option(root, flag) if moved else own
        option_words = [word]
        if option is not None and not option.is_flag and not equals:
            following = next(rest, None)
            if following is None and moved:
                return [word]  # the parser says that its value is missing
            option_words += [] if following is None else [following]
        if moved and option is not None and place is not None:
            arranged[place:place] = option_words
            place += len(option_words)
            continue
        if option is None and word in getattr(command, "commands", {}):
            place = len(arranged) if place is None else place
            command = command.commands[word]
        arranged += option_words
    return arranged


def _option(command: Any, flag: str) -> Any:
    """Return the option of that flag, if the command has one."""
    if not flag.startswith("-"):
        return None
    return next((each for each in command.params if flag in (*each.opts, *each.secondary_opts)), None)
