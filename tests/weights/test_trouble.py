"""A pull that goes wrong: each failure says what to do, and nothing half-written is taken for whole."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fixtures.hub import FILES, HURRY, LARGE, REPOSITORY, Puller, manifest_of
from tests.support.loopback import Fault, LoopbackHub, blob_id, refusing_endpoint
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import JobCancelled, WeightsUnavailable
from wan_mcp.weights import download as transfer
from wan_mcp.weights import fetch as fetching
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.fetch import fetch, news
from wan_mcp.weights.hub_errors import Patience
from wan_mcp.weights.installed import discard, installed_weights, is_installed

SIZE = len(FILES[LARGE])


def refused(puller: Puller, code: str) -> str:
    """The message of a pull that must fail, and leave nothing that looks whole."""
    with pytest.raises(WeightsUnavailable) as caught:
        puller.pull()
    assert caught.value.code == code
    assert not is_installed(puller.manifest, puller.home)
    assert not list(puller.home.glob("weights/*.lock.json"))
    return str(caught.value)


def ranges(puller: Puller) -> list[str | None]:
    """What was asked of the large file, request by request."""
    return [r.range for r in puller.hub.file_requests() if r.path.endswith(LARGE)]


@pytest.mark.parametrize("seed", range(5))
def test_a_connection_that_is_cut_anywhere_goes_on_at_that_byte(puller: Puller, seed: int) -> None:
    at = random.Random(seed).randrange(1, SIZE)
    puller.hub.fail(Fault(LARGE, cut_at=at))
    fetched = puller.pull()
    assert (fetched.lock.folder / LARGE).read_bytes() == FILES[LARGE]
    assert ranges(puller) == [None, f"bytes={at}-"]
    assert fetched.came == sum(f.size for f in fetched.lock.files.values())


def test_a_hub_that_knows_no_ranges_sends_the_file_again_from_its_start(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, cut_at=1000))
    puller.hub.fail(Fault(LARGE, ranges=False))
    fetched = puller.pull()
    assert (fetched.lock.folder / LARGE).read_bytes() == FILES[LARGE]
    assert puller.told[-1].done == puller.told[-1].total


def test_a_connection_that_breaks_again_and_again_ends_the_pull_and_keeps_what_came(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, cut_at=1000))
    puller.hub.fail(Fault(LARGE, cut_at=0, times=None))
    assert "wan-mcp pull tiny" in refused(puller, "hub_unreachable")
    assert [p.stat().st_size for p in puller.partials] == [1000]
    puller.hub.faults.clear()
    puller.pull()
    assert ranges(puller)[-1] == "bytes=1000-"


def test_a_damaged_file_is_brought_once_more(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, wrong=True))
    assert (puller.pull().lock.folder / LARGE).read_bytes() == FILES[LARGE]


@pytest.mark.parametrize("file", [LARGE, "model_index.json"])
def test_a_file_that_stays_damaged_is_refused_and_not_kept(puller: Puller, file: str) -> None:
    puller.hub.fail(Fault(file, wrong=True, times=None))
    assert file in refused(puller, "download_corrupted")
    content = hashlib.sha256(FILES[file]).hexdigest() if file == LARGE else blob_id(FILES[file])
    assert not [p for p in puller.cache.rglob(f"blobs/{content}*") if p.stat().st_size]


def test_a_partial_file_that_was_damaged_on_the_disk_is_found_out(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, cut_at=1000))
    puller.hub.fail(Fault(LARGE, cut_at=0, times=None))
    refused(puller, "hub_unreachable")
    puller.hub.faults.clear()
    puller.partials[0].write_bytes(bytes(1000))
    assert (puller.pull().lock.folder / LARGE).read_bytes() == FILES[LARGE]


def test_a_rate_limit_is_waited_for_as_long_as_the_hub_says(puller: Puller) -> None:
    puller.hub.fail(Fault("api", status=429, headers={"retry-after": "0"}))
    puller.hub.fail(Fault(LARGE, status=429, headers={"ratelimit": '"api";r=0;t=0'}))
    puller.pull()
    assert is_installed(puller.manifest, puller.home)


def test_a_rate_limit_of_an_hour_ends_the_pull_and_says_when_to_come_back(puller: Puller) -> None:
    puller.hub.fail(Fault("api", status=429, headers={"retry-after": "3600"}))
    assert "about 60 min" in refused(puller, "hub_rate_limited")


def test_a_hub_in_trouble_is_asked_again(puller: Puller) -> None:
    puller.hub.fail(Fault("api", status=503))
    puller.hub.fail(Fault(LARGE, status=500))
    puller.pull()


def test_a_hub_that_stays_in_trouble_is_named(puller: Puller) -> None:
    puller.hub.fail(Fault("api", status=503, times=None))
    assert "503" in refused(puller, "hub_broken")


def test_a_missing_repository_is_named(puller: Puller) -> None:
    puller.manifest = manifest_of("acme/nowhere")
    assert "acme/nowhere" in refused(puller, "hub_missing")


def test_a_missing_revision_is_named(puller: Puller) -> None:
    puller.manifest = manifest_of(revision="v9")
    assert "'v9'" in refused(puller, "hub_missing")


def test_a_gated_repository_says_how_to_get_in(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES, token="secret", gated=True)
    message = refused(puller, "hub_gated")
    assert "accept its conditions" in message
    assert "HF_TOKEN" in message
    puller.token = "secret"
    puller.pull()


def test_a_wrong_token_is_blamed_and_not_the_repository(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES, token="secret")
    puller.token = "stale"
    assert "token" in refused(puller, "hub_token")
    assert "stale" not in refused(puller, "hub_token")


def test_an_expired_token_is_blamed_for_what_everybody_may_read(puller: Puller) -> None:
    puller.hub.expired.add("old")
    puller.token = "old"
    assert "expired" in refused(puller, "hub_token")
    puller.token = False
    puller.pull()


def test_an_account_without_the_grant_is_sent_to_the_conditions(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES, token="secret", gated=True)
    puller.token = "of another account"
    assert "accept its conditions" in refused(puller, "hub_gated")


def test_a_store_that_refuses_an_address_is_sent_another_and_is_not_taken_for_the_token(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES, store=True)
    fault = puller.hub.fail(Fault(f"store:{LARGE}", status=403))
    puller.pull()
    assert fault.times == 0


def test_a_store_that_refuses_every_address_is_named(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES, store=True)
    puller.hub.fail(Fault(f"store:{LARGE}", status=403, times=None))
    assert "store refuses" in refused(puller, "hub_broken")


def test_a_token_without_the_right_is_told_so(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, status=403))
    assert "may not read" in refused(puller, "hub_token")


def test_a_repository_of_pickles_is_refused_with_the_reason(puller: Puller) -> None:
    puller.hub.add("acme/pickles", {"model_index.json": b"{}", "transformer/model.bin": b"x", "vae/model.pt": b"x"})
    puller.manifest = manifest_of("acme/pickles", ("model_index.json", "transformer/*.safetensors"))
    message = refused(puller, "weights_pickled")
    assert "transformer/model.bin" in message
    assert "runs whatever code" in message
    assert not puller.hub.file_requests()


def test_a_repository_without_a_needed_file_is_refused_before_anything_comes(puller: Puller) -> None:
    puller.manifest = manifest_of(files=("model_index.json", "transformer_2/*.safetensors"))
    assert "transformer_2/*.safetensors" in refused(puller, "weights_incomplete")
    assert not puller.hub.file_requests()


def test_a_path_that_leads_out_of_the_snapshot_is_never_written(puller: Puller) -> None:
    puller.hub.add(REPOSITORY, FILES | {"../../evil.json": b"{}", "/etc/evil.json": b"{}"})
    puller.manifest = manifest_of(files=())
    puller.pull()
    assert not list(puller.root.rglob("*evil*"))


def test_a_listing_whose_hashes_are_none_is_refused_for_they_become_names_of_files(puller: Puller) -> None:
    for word in (puller.hub.add(REPOSITORY, FILES), blob_id(FILES["model_index.json"])):
        puller.hub.fail(Fault("api", swap=(word, "../" * 9 + "evil")))
        assert "no hashes" in refused(puller, "hub_broken")
    assert not list(puller.root.rglob("*evil*"))


def test_a_locked_commit_that_is_gone_upstream_says_how_to_go_on(puller: Puller) -> None:
    lock = puller.pull().lock
    discard(lock, [LARGE])
    puller.hub.forget()
    puller.hub.add(REPOSITORY, FILES | {LARGE: b"new"})
    with pytest.raises(WeightsUnavailable, match="--update") as caught:
        puller.pull()
    assert caught.value.code == "hub_missing"
    assert puller.pull(update=True).lock.commit != lock.commit


def test_a_disk_without_room_is_told_beforehand_with_the_bytes_missing(puller: Puller) -> None:
    with pytest.raises(WeightsUnavailable, match=r"\d+ bytes are missing.*HF_HOME") as caught:
        puller.pull(reserve=10**18)
    assert caught.value.code == "out_of_space"
    assert not puller.hub.file_requests()


def test_a_disk_that_fills_up_while_a_model_comes_keeps_its_reserve(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ROOM_LOOK", 1000)
    free = iter([10**12, 10**12])

    def filling(folder: Path) -> int:
        return next(free, 0)

    monkeypatch.setattr(fetching, "free_bytes", filling)
    monkeypatch.setattr(transfer, "free_bytes", filling)
    with pytest.raises(WeightsUnavailable, match="filled up while downloading") as caught:
        puller.pull(reserve=10**6)
    assert caught.value.code == "out_of_space"
    monkeypatch.undo()
    puller.pull()


def test_a_second_download_does_not_count_on_the_room_of_the_first(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = puller.hub.fail(Fault(LARGE, hold_at=100_000))
    other = manifest_of("acme/other").model_copy(update={"name": "other"})
    puller.hub.add("acme/other", FILES)
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 800_000)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(puller.pull)
        assert fault.held.wait(PATIENCE_S)
        with pytest.raises(WeightsUnavailable) as caught:
            fetch(other, puller.home, puller.told.append, hub=puller.client, patience=HURRY)
        fault.go.set()
        first.result()
    assert caught.value.code == "out_of_space"
    fetch(other, puller.home, puller.told.append, hub=puller.client, patience=HURRY)


def test_a_variant_needs_no_room_for_the_files_that_come_for_another(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = puller.hub.fail(Fault(LARGE, hold_at=100_000))
    variant = manifest_of().model_copy(update={"name": "tiny-variant"})
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 600_000)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(puller.pull)
        assert fault.held.wait(PATIENCE_S)
        second = pool.submit(fetch, variant, puller.home, puller.told.append, hub=puller.client, patience=HURRY)
        fault.go.set()
        assert first.result().came + second.result().came < 600_000


def test_a_page_that_is_no_hub_is_recognised(puller: Puller) -> None:
    puller.hub.fail(Fault("api", wrong=True, times=None))
    assert "HF_ENDPOINT" in refused(puller, "hub_broken")


def test_a_hub_that_is_gone_is_told_and_what_is_local_serves_on(puller: Puller, tmp_path: Path) -> None:
    puller.pull()
    gone, endpoint = Puller(LoopbackHub(), tmp_path / "other"), puller.hub.endpoint
    with refusing_endpoint() as nobody:
        gone.hub.endpoint = puller.hub.endpoint = nobody
        try:
            assert "cannot be reached" in refused(gone, "hub_unreachable")
            assert puller.pull().came == 0
            assert installed_weights(puller.manifest, puller.home) is not None
            with pytest.raises(WeightsUnavailable, match="cannot be reached"):
                news(puller.manifest, puller.home, hub=puller.client, patience=Patience(tries=1))
        finally:
            puller.hub.endpoint = endpoint


def test_a_cancelled_pull_stops_at_once_and_the_next_goes_on_at_its_byte(puller: Puller) -> None:
    fault = puller.hub.fail(Fault(LARGE, hold_at=100_000))
    rest = sum(len(c) for p, c in FILES.items() if p.endswith((".json", "vae/diffusion_pytorch_model.safetensors")))

    def tell(download: Download) -> None:
        if fault.held.is_set() and download.done >= 100_000 + rest:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        puller.pull(tell=tell)
    assert not fault.expired.is_set()  # the answer that is being held is not waited for
    assert not is_installed(puller.manifest, puller.home)
    puller.hub.faults.clear()
    fault.go.set()
    fetched = puller.pull()
    assert ranges(puller)[-1] is not None
    assert fetched.came < SIZE
    assert (fetched.lock.folder / LARGE).read_bytes() == FILES[LARGE]
