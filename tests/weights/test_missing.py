"""What a download would still bring: told without the hub, and held to a limit once the hub has listed the files."""

from pathlib import Path

import pytest

from tests.fixtures.hub import FILES, LARGE, PATTERNS, Puller, manifest_of
from tests.support.loopback import LoopbackHub
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import WeightsUnavailable
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.download_rate import expected_seconds, remember_rate
from wan_mcp.weights.missing import missing_bytes

SIZES = {path: len(content) for path, content in FILES.items() if not path.endswith((".bin", ".md"))}
WHOLE = sum(SIZES.values())
ADAPTER = {"repository": "acme/adapters", "file": "fast.safetensors"}


class Enough(Exception):
    """Stops a download."""


def with_adapter(disk_bytes: int = WHOLE + 1000) -> Manifest:
    whole = manifest_of(disk_bytes=disk_bytes).model_dump(mode="json", by_alias=True)
    whole["pipeline"]["experts"] = [{"name": "only", "subfolder": "transformer", "lora": [ADAPTER]}]
    return Manifest.model_validate(whole)


def missing(puller: Puller, manifest: Manifest | None = None) -> int:
    before = list(puller.hub.requests)
    found = missing_bytes(manifest or puller.manifest, puller.home, puller.cache)
    assert puller.hub.requests == before
    return found


def test_of_a_model_that_was_never_downloaded_the_manifest_says_how_much_is_missing(puller: Puller) -> None:
    assert missing(puller, manifest_of(disk_bytes=34_200_000_000)) == 34_200_000_000


def test_a_model_that_is_here_lacks_nothing_whatever_its_manifest_says(puller: Puller) -> None:
    puller.manifest = manifest_of(disk_bytes=34_200_000_000)
    puller.pull()
    assert missing(puller) == 0


def test_a_download_that_was_interrupted_lacks_what_has_not_come_to_the_byte(puller: Puller) -> None:
    puller.manifest = manifest_of(disk_bytes=34_200_000_000)

    def enough(download: Download) -> None:
        if download.done:
            raise Enough

    with pytest.raises(Enough):
        puller.pull(tell=enough)
    came = sum(file.stat().st_size for file in puller.cache.glob("models--*/blobs/*"))
    assert missing(puller) == WHOLE - came < WHOLE
    puller.pull()
    assert missing(puller) == 0
    assert not list((puller.home / "weights").glob("*.expected.json"))


def test_a_file_that_was_lost_is_what_is_missing(puller: Puller) -> None:
    lock = puller.pull().lock
    (lock.folder / LARGE).resolve().unlink()
    assert missing(puller) == SIZES[LARGE]


def test_what_another_model_or_another_program_has_downloaded_is_not_missing(puller: Puller) -> None:
    puller.manifest = manifest_of(files=("model_index.json", "transformer/*"))
    puller.pull()
    assert missing(puller, manifest_of(files=PATTERNS, disk_bytes=WHOLE)) == SIZES["vae/config.json"] + 3000
    others = manifest_of(files=("vae/*",), disk_bytes=3002)  # nothing of what is here is its own
    assert missing(puller, others) == 3002


def test_adapters_of_another_repository_are_missing_too(puller: Puller) -> None:
    puller.hub.add("acme/adapters", {"fast.safetensors": b"a" * 1000, "slow.safetensors": b"s" * 9000})
    puller.pull()
    assert missing(puller, with_adapter()) == 1000
    puller.manifest = with_adapter()
    puller.pull()
    assert missing(puller) == 0


@pytest.mark.parametrize("limit", [0, WHOLE - 1])
def test_a_download_above_its_limit_brings_nothing(puller: Puller, hub: LoopbackHub, limit: int) -> None:
    with pytest.raises(WeightsUnavailable, match="wan-mcp pull tiny") as failure:
        puller.pull(limit=limit)
    assert failure.value.code == "download_needs_consent"
    assert not hub.file_requests()
    assert not list(puller.cache.glob("models--*/blobs/*"))


def test_all_repositories_of_a_model_count_against_the_limit_before_the_first_brings_anything(
    puller: Puller, hub: LoopbackHub
) -> None:
    hub.add("acme/adapters", {"fast.safetensors": b"a" * 1000})
    puller.manifest = with_adapter(disk_bytes=1)  # a manifest that says too little
    with pytest.raises(WeightsUnavailable):
        puller.pull(limit=WHOLE + 999)
    assert not hub.file_requests()
    puller.pull(limit=WHOLE + 1000)


def test_what_is_here_in_part_counts_for_what_is_missing_only(puller: Puller, hub: LoopbackHub) -> None:
    puller.manifest = manifest_of(files=("model_index.json", "transformer/*"))
    puller.pull()
    puller.manifest = manifest_of()
    assert puller.pull(limit=SIZES["vae/config.json"] + 3000).came == SIZES["vae/config.json"] + 3000


def test_only_a_large_download_says_how_fast_the_next_one_is(tmp_path: Path) -> None:
    assert expected_seconds(tmp_path, 10**9) is None
    remember_rate(tmp_path, 1_000, 1.0)
    assert expected_seconds(tmp_path, 10**9) is None
    remember_rate(tmp_path, 200_000_000, 10.0)
    assert expected_seconds(tmp_path, 10**9) == pytest.approx(50.0)
    (tmp_path / "weights" / "last_download.json").write_text("nonsense", encoding="utf-8")
    assert expected_seconds(tmp_path, 10**9) is None
