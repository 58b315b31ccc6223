"""How downloads are named."""

from email.message import Message

import pytest

from wan_mcp.fronts.media_answer import disposition


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("2026-11-28_a-red-star_s42.mp4", "2026-11-28_a-red-star_s42.mp4"),
        ("2026-11-28_ein-grüner-kreis_s1.png", "2026-11-28_ein-gruner-kreis_s1.png"),
        ("2026-11-28_紅い星_s1.gif", "2026-11-28__s1.gif"),
        ('a"b\\c\r\nX: y/..\\z;.mp4', "a-b-c--X- y-..-z-.mp4"),
        ("星", "file"),
    ],
)
def test_a_name_is_said_in_full_and_in_ascii(name: str, plain: str) -> None:
    header = disposition(name, "attachment")
    message = Message()
    message["Content-Disposition"] = header
    assert header.startswith(f'attachment; filename="{plain}"; filename*=')
    assert header.isascii()
    assert not set(header) & {"\r", "\n"}
    assert message.get_filename() is not None


def test_the_full_name_survives() -> None:
    message = Message()
    message["Content-Disposition"] = disposition("紅い星 100%.mp4", "inline").replace('filename="', 'other="')
    assert message.get_filename() == "紅い星 100%.mp4"
    assert message.get_content_disposition() == "inline"
