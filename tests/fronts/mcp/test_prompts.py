"""Prompts that cannot be had: the reason in words, for clients of both eras, and nothing in the log."""

import logging
from typing import Any

import pytest
from mcp import MCPError
from mcp.types import INVALID_PARAMS

from tests.fixtures.mcp_server import ERAS, Connect
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

CASES: list[tuple[str, dict[str, Any] | None, str]] = [
    ("make_vido", {"idea": "rain"}, "no prompt 'make_vido'; did you mean make_video?"),
    ("zzz", None, "no prompt 'zzz'; available: make_video, animate_image, storyboard, vary_result"),
    ("make_video", None, "make_video: argument 'idea' is missing: What the video should show."),
    ("make_video", {"idea": ""}, "make_video: argument 'idea' is missing"),
    ("make_video", {"idea": "rain", "stile": "noir"}, "make_video: no argument 'stile'; did you mean style?"),
    ("animate_image", {"motion": "spin"}, "animate_image: argument 'image' is missing"),
]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize(("name", "given", "words"), CASES, ids=[f"{name}-{given}" for name, given, _ in CASES])
async def test_a_prompt_that_cannot_be_had_is_refused_in_words(
    settings: Settings,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    name: str,
    given: dict[str, Any] | None,
    words: str,
) -> None:
    async with connect(settings, mode) as runner:
        with pytest.raises(MCPError) as refused:
            await runner.client.get_prompt(name, given)
    assert (refused.value.code, refused.value.message.startswith(words)) == (INVALID_PARAMS, True), refused.value
    assert [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info] == []


@pytest.mark.parametrize("mode", ERAS)
async def test_blank_arguments_of_a_prompt_were_left_out(settings: Settings, connect: Connect, mode: str) -> None:
    blanks = {"style": "", "model": "", "resolution": ""}
    async with connect(settings, mode) as runner:
        with_blanks = await runner.client.get_prompt("make_video", {"idea": "rain", **blanks})
        without = await runner.client.get_prompt("make_video", {"idea": "rain"})
    assert with_blanks.messages == without.messages


@pytest.mark.parametrize("mode", ERAS)
async def test_nothing_is_promised_that_is_never_sent(settings: Settings, connect: Connect, mode: str) -> None:
    async with connect(settings, mode) as runner:
        promised = runner.client.server_capabilities.model_dump(exclude_none=True)
    flags = [
        (name, flag)
        for name, each in promised.items()
        if isinstance(each, dict)
        for flag, value in each.items()
        if value is not False
    ]
    # The older protocol announces that resources can be subscribed to; test_subscriptions.py sees the updates.
    assert flags == ([("resources", "subscribe")] if mode == "legacy" else [])
