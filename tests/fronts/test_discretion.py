"""The words that a client elsewhere reads: without places on this machine, and otherwise unchanged."""

from pathlib import Path

import pytest

from wan_mcp.fronts.discretion import HIDDEN, discreet

HOME = Path("/srv/my home/wan")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see its log /srv/my home/wan/logs/engine.log. Others", f"see its log {HIDDEN} Others"),
        ("no file '/private/alice passport.png' there", f"no file '{HIDDEN}' there"),
        ("outside (/home/a/Pictures, /mnt/x y/z); copy", None),
        ("cannot read /etc/passwd: denied", f"cannot read {HIDDEN}: denied"),
        ("'~alice/Pictures/x.png' is outside", f"'{HIDDEN}' is outside"),
        ("broken: /opt/x/manifests/a.toml: key", None),
    ],
)
def test_paths_are_hidden_wherever_they_stand(text: str, shown: str | None) -> None:
    told = discreet(text, HOME)
    if shown is not None:
        assert told == shown
    for part in ("/srv", "wan/logs", "/private", "alice", "/home", "/mnt", "/etc", "passwd", "/opt", "toml"):
        assert part not in told


@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.0.5:8000/media/videos/0123-0.mp4",
        "wan://images/0123-0.png",
        "of type video/mp4 or image/png, 16/9, and/or, 81 frames at 16 fps",
        "File: http://[::1]:8000/media/images/a-0.png (wan://images/a-0.png, seed 7)",
        "write WIDTHxHEIGHT; /help is a word",
        "owner/name@main, black-forest-labs/FLUX.2-klein-4B",
    ],
)
def test_addresses_and_ordinary_words_stay(text: str) -> None:
    assert discreet(text, HOME) == text
