"""`wan-mcp token`: tokens are made, listed and revoked, and shown once."""

import json
import subprocess

import pytest

from tests.fixtures.command_line import COMMAND, environment
from wan_mcp.errors import BadRequest
from wan_mcp.service.tokens import Tokens
from wan_mcp.settings import Settings


def test_a_token_is_printed_alone_and_once(settings: Settings) -> None:
    command = [*COMMAND, "token"]
    made = subprocess.run([*command, "add", "alice"], env=environment(settings), capture_output=True, text=True)
    assert (made.returncode, made.stdout.count("\n")) == (0, 1)
    assert Tokens(settings.home).owner_of(made.stdout.strip()) == "alice"
    assert made.stdout.strip() not in made.stderr
    listed = subprocess.run([*command, "list", "--json"], env=environment(settings), capture_output=True, text=True)
    assert [each["name"] for each in json.loads(listed.stdout)] == ["alice"]
    assert made.stdout.strip() not in listed.stdout


def test_a_name_has_one_token_and_revoking_it_makes_room_for_another(settings: Settings) -> None:
    tokens, others = Tokens(settings.home), Tokens(settings.home)  # as of two processes
    first = tokens.add("alice")
    assert (tokens.owner_of(first), others.owner_of(first)) == ("alice", "alice")
    with pytest.raises(BadRequest, match="revoke it first"):
        others.add("alice")
    others.revoke("alice")
    assert tokens.owner_of(first) is None
    with pytest.raises(BadRequest, match="there are: none"):
        tokens.revoke("alice")
    second = others.add("alice")
    assert (tokens.owner_of(first), tokens.owner_of(second)) == (None, "alice")


@pytest.mark.parametrize("name", ["", "Alice", "../alice", "a b", "-x", ".x", "x" * 41, "ä", "?", "oauth:x"])
def test_a_name_that_cannot_be_one_is_refused_with_what_can(settings: Settings, name: str) -> None:
    with pytest.raises(BadRequest, match="small letters"):
        Tokens(settings.home).add(name)
    assert not settings.home.exists()


AT = '{"sha256": "x", "created_at": %s}'


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", '{"sha256": null}', "\x00", "[" * 5000, '{"a": ' * 5000),
        *(AT % at for at in ('"y"', "1e999", "-1e99", "NaN", "1" + "0" * 400, "1" * 5000, "[]")),
    ],
    ids=range(14),
)
def test_a_damaged_file_is_no_token_and_harms_no_other(settings: Settings, content: str) -> None:
    tokens = Tokens(settings.home)
    token = tokens.add("alice")
    (settings.home / "tokens" / "bob.json").write_text(content)
    assert Tokens(settings.home).owner_of(token) == "alice"
    assert [each.name for each in tokens.all()] == ["alice"]
