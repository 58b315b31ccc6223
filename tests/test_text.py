"""Sizes, times and foreign errors, as people and models read them."""

import math

import pytest

from wan_mcp.text import (
    as_sentence,
    capitalized,
    duration,
    escaped,
    first_line,
    in_bytes,
    instant,
    last_line,
    number,
    one_line,
    quoted,
    shortened,
    time_left,
)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (515_000, "515.0 kB"),
        (999_600_000, "999.6 MB"),
        (8_585_740_288, "8.6 GB"),
        (126_342_000_000, "126.3 GB"),
        (1.5e12, "1.5 TB"),
    ],
)
def test_bytes_are_told_in_units_of_ten_with_one_decimal(count: float, words: str) -> None:
    assert in_bytes(count) == words


@pytest.mark.parametrize(
    ("seconds", "exactly", "about"),
    [
        (0.04, "0.0 s", ", about 1 s left"),
        (4.25, "4.2 s", ", about 4 s left"),
        (61.4, "61 s", ", about 61 s left"),
        (99, "99 s", ", about 99 s left"),
        (500, "8 min", ", about 8 min left"),
        (5400, "90 min", ", about 90 min left"),
        (9000, "2.5 h", ", about 2.5 h left"),
    ],
)
def test_seconds_are_told_as_precisely_as_they_are_known(seconds: float, exactly: str, about: str) -> None:
    assert duration(seconds) == exactly
    assert time_left(seconds) == about


def test_of_what_nobody_can_estimate_nothing_is_told() -> None:
    assert time_left(None) == ""


def test_an_instant_is_iso_8601_in_utc() -> None:
    assert instant(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
    assert instant(None) is None


def test_of_a_foreign_error_its_kind_and_first_line_are_told() -> None:
    assert first_line(ValueError("\n  first \nsecond")) == "ValueError: first"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(OSError("x" * 5000))) < 320


def test_of_what_a_program_printed_the_last_line_is_told() -> None:
    assert last_line(["first\n", " last \n", "\n"]) == "last"
    assert last_line([]) is None
    assert len(last_line(["x" * 5000]) or "") == 300


def test_a_text_that_was_cut_ends_with_an_ellipsis() -> None:
    assert shortened("exactly", 7) == "exactly"
    assert shortened("one too many", 11) == "one too ma…"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**31, "2147483648"),
        (2.0**31, "2147483648"),
        (10**15 + 1, "1000000000000001"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (-1.5, "-1.5"),
        (1e-7, "1e-07"),
        (1e308, "1e+308"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (10**400, "1e400"),
        (-(10**5000), "-1e5000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # pytest cannot write the last number either
)
def test_numbers_are_written_whole_unless_they_are_absurd(value: float, words: str) -> None:
    assert number(value) == quoted(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("wan", "'wan'"),
        ("a\nb\x1b]0;c\x07", r"'a\nb\x1b]0;c\x07'"),
        ("half \ud83d", r"'half \ud83d'"),
        ("x" * 54_000_000, f"'{'x' * 59}…'"),
        (True, "true"),
        (["a", 1], "['a', 1]"),
        ({"a": 10**5000}, "a dict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refused_value_is_shown_short_and_on_one_line(value: object, words: str) -> None:
    assert quoted(value) == words


@pytest.mark.parametrize(
    ("text", "shown", "line"),
    [
        ("red \x1b]0;title\x07 circle", r"red \x1b]0;title\x07 circle", r"red \x1b]0;title\x07 circle"),
        ("\x9b31m \x90q\x9c", r"\x9b31m \x90q\x9c", r"\x9b31m \x90q\x9c"),
        ("a\r\nb\n\nc\td", r"a\r\nb\n\nc\td", "a b c d"),
        ("a\x0bb\x85c\u2028d\u2029e", r"a\x0bb\x85c\u2028d\u2029e", "a b c d e"),
        ("\u202etxt.exe\u2066 \u200b\ufeff", r"\u202etxt.exe\u2066 \u200b\ufeff", r"\u202etxt.exe\u2066 \u200b\ufeff"),
        ("half \ud83d \x00\x7f\x08", r"half \ud83d \x00\x7f\x08", r"half \ud83d \x00\x7f\x08"),
        ("hidden \U000e0041", r"hidden \U000e0041", r"hidden \U000e0041"),
        ("👩‍🎨 é ש 字 می‌خواهم [red]", "👩‍🎨 é ש 字 می‌خواهم [red]", "👩‍🎨 é ש 字 می‌خواهم [red]"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_and_all_else_stays(text: str, shown: str, line: str) -> None:
    assert escaped(text) == shown
    assert one_line(text) == line
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in escaped(text) + one_line(text))


def test_line_ends_of_a_long_text_can_be_kept() -> None:
    assert escaped("a\n\tb\r\x1b", keep="\n\t") == "a\n\tb\\r\\x1b"


def test_an_error_becomes_a_sentence_and_stays_as_it_is_otherwise() -> None:
    for words, sentence in (
        ("no job 'x'", "No job 'x'."),
        ("ÄÖ", "ÄÖ."),
        ("ﬁle", "FIle."),
        ("'x' is odd", "'x' is odd."),
    ):
        assert as_sentence(ValueError(words)) == sentence
        assert capitalized(words) == sentence[:-1]
