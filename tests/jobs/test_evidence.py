"""How many deaths of engines a job may see, of each kind."""

import pytest

from wan_mcp.jobs.evidence import Death, Evidence

CRASHED, HUNG, KILLED = Death.CRASHED, Death.HUNG, Death.KILLED


def deaths(*each: tuple[Death, str]) -> Evidence:
    evidence = Evidence()
    for death, device in each:
        evidence = evidence.after(death, device)
    return Evidence.parse(str(evidence))


@pytest.mark.parametrize(("death", "allowed", "says"), [(KILLED, 5, "killed 6 times"), (HUNG, 2, "hung 3 times")])
def test_a_job_fails_after_so_many_kills_or_hangs_on_whatever_devices(death: Death, allowed: int, says: str) -> None:
    seen = [(death, f"cuda:{number % 2}") for number in range(allowed)]
    assert deaths(*seen).fails(["cpu"]) is None
    assert deaths(*seen).fails([]) is None
    assert says in (deaths(*seen, (death, "cpu")).fails(["cpu"]) or "")


@pytest.mark.parametrize(
    ("seen", "devices", "fails"),
    [
        ([CRASHED], ["cpu"], None),
        ([CRASHED, CRASHED], ["cpu"], "twice"),
        ([CRASHED, CRASHED], ["cpu", "cuda:0"], None),
        ([CRASHED, CRASHED], [], "twice"),
        ([CRASHED, KILLED, HUNG], ["cpu"], None),
    ],
)
def test_crashes_on_one_device_bar_only_that_device(seen: list[Death], devices: list[str], fails: str | None) -> None:
    evidence = deaths(*((death, "cpu") for death in seen))
    assert fails in (evidence.fails(devices) or "") if fails else evidence.fails(devices) is None
    assert evidence.bars("cpu") == (seen.count(CRASHED) > 1)
    assert not evidence.bars("cuda:0")


def test_crashes_on_two_devices_fail_a_job_whatever_is_left() -> None:
    evidence = deaths((CRASHED, "cpu"), (CRASHED, "cuda:0"))
    assert "died twice" in (evidence.fails(["cpu", "cuda:0", "cuda:1"]) or "")
    assert "3 times" in (deaths(*evidence.deaths, (CRASHED, "cpu")).fails(["cuda:1"]) or "")


@pytest.mark.parametrize(("kills", "waits"), [(0, False), (1, False), (2, True), (3, True)])
def test_other_jobs_go_first_after_two_kills(kills: int, waits: bool) -> None:
    assert deaths(*[(KILLED, "cpu")] * kills).waits is waits


@pytest.mark.parametrize("text", [None, "", "[]", "{", "3", '[["bored", "cpu"]]', "[[]]", "[" * 50_000, "[[1, 2, 3]]"])
def test_what_is_no_evidence_counts_for_nothing(text: str | None) -> None:
    assert Evidence.parse(text).fails([]) is None


def test_a_job_with_no_room_on_a_device_is_for_the_others_and_fails_without_them() -> None:
    evidence = Evidence().without_room_on("cuda:0")
    assert Evidence.parse(str(evidence)) == evidence
    assert evidence.bars("cuda:0") and not evidence.bars("cuda:1")
    assert evidence.fails(["cuda:0", "cuda:1"]) is None
    assert "enough memory" in (evidence.fails(["cuda:0"]) or "")
    assert Evidence.parse(str(evidence.after(Death.KILLED, "cuda:1"))).too_large_for == ("cuda:0",)
