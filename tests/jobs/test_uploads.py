"""Pictures that were sent on their own: for their owner only, for a day; and links that are good for one."""

import pytest

from tests.fixtures.job_table import Clock
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.uploads import KEPT_S, LINK_S, Uploads

HASH, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def uploads(database: Database, clock: Clock) -> Uploads:
    return Uploads(database, clock)


def test_an_upload_is_found_by_its_owner_for_a_day(uploads: Uploads, clock: Clock) -> None:
    upload = uploads.add("ann", HASH)
    found = uploads.find(upload.id, "ann")
    assert found is not None
    assert found.sha256 == HASH
    assert [uploads.find(upload.id, owner) for owner in ("", "bob", "ANN")] == [None] * 3
    clock.now += KEPT_S + 1
    assert uploads.find(upload.id, "ann") is None


def test_a_link_fills_its_own_upload_once_and_in_time(uploads: Uploads, clock: Clock) -> None:
    upload, secret = uploads.offer("ann")
    assert secret not in upload.id
    assert uploads.is_open(secret)
    assert not uploads.is_open(upload.id)
    assert uploads.fill(secret, HASH)
    assert not uploads.fill(secret, OTHER)
    assert not uploads.begin(secret)
    clock.now += LINK_S + 1  # the picture stays longer than the link would have
    found = uploads.find(upload.id, "ann")
    assert found is not None
    assert found.sha256 == HASH
    _, late = uploads.offer("ann")
    clock.now += LINK_S + 1
    assert not uploads.is_open(late)
    assert not uploads.fill(late, HASH)


def test_links_of_one_owner_do_not_end_those_of_another(uploads: Uploads) -> None:
    _, secret = uploads.offer("ann")
    for _ in range(50):
        uploads.offer("bob")
    assert uploads.is_open(secret)
