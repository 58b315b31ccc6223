"""A pull that goes well: what comes, where it lies, what is locked, and what other clients see of it."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download

from tests.fixtures.hub import FILES, LARGE, REPOSITORY, Puller, manifest_of
from tests.support.loopback import Fault, LoopbackHub
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import WeightsUnavailable
from wan_mcp.weights.fetch import news
from wan_mcp.weights.installed import damaged_files, discard, installed_weights, is_installed

WANTED = {path: content for path, content in FILES.items() if not path.endswith((".bin", ".md"))}


def test_a_pull_brings_the_wanted_files_and_nothing_else(puller: Puller) -> None:
    fetched = puller.pull()
    folder = fetched.lock.folder
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == set(WANTED)
    assert {path: (folder / path).read_bytes() for path in WANTED} == WANTED
    assert fetched.came == sum(map(len, WANTED.values()))
    assert not puller.partials


def test_the_same_tensors_in_another_precision_stay_on_the_hub_unless_asked_for(puller: Puller) -> None:
    vae = "vae/diffusion_pytorch_model"
    twins = {
        f"{vae}.fp16.safetensors": b"small",
        f"{vae}.bf16-00001-of-00001.safetensors": b"small",
        f"{vae}.safetensors.index.fp16.json": b"{}",
    }
    alone = {"transformer/style.fp16.safetensors": b"nothing else holds it"}
    puller.hub.add(REPOSITORY, FILES | twins | alone)
    assert set(puller.pull().lock.files) == set(WANTED | alone)
    puller.manifest = manifest_of(files=("model_index.json", "vae/*.fp16.safetensors"))
    assert set(puller.pull().lock.files) == {"model_index.json", f"{vae}.fp16.safetensors"}


def test_the_lock_names_the_commit_and_the_sha256_of_every_file(puller: Puller) -> None:
    commit = puller.hub.add(REPOSITORY, FILES)
    puller.pull()
    lock = json.loads((puller.home / "weights" / "tiny.lock.json").read_text())
    assert lock["commit"] == commit
    assert {path: file["sha256"] for path, file in lock["files"].items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in WANTED.items()
    }


def test_what_killed_writers_have_left_of_a_lock_is_swept_by_the_next_pull(puller: Puller) -> None:
    weights = puller.home / "weights"
    (weights / ".tiny.lock.json.0123456789abcdef.part").mkdir(parents=True)
    former = weights / ".tiny.lock.json.4711"  # as 0.1.0 called it
    former.write_bytes(b"{")
    os.utime(former, (1, 1))
    puller.pull()
    assert [file.name for file in weights.iterdir()] == ["tiny.lock.json"]


def test_the_hubs_own_client_finds_the_files_offline(puller: Puller) -> None:
    fetched = puller.pull()
    found = snapshot_download(REPOSITORY, cache_dir=puller.cache, local_files_only=True)
    assert Path(found).resolve() == fetched.lock.folder.resolve()


def test_the_hubs_own_tool_counts_the_files_even_beside_an_unfinished_download(puller: Puller) -> None:
    puller.hub.fail(Fault(LARGE, cut_at=1000))
    puller.hub.fail(Fault(LARGE, cut_at=0, times=None))
    with pytest.raises(WeightsUnavailable):
        puller.pull()
    assert puller.partials
    puller.hub.faults.clear()
    puller.manifest = manifest_of(files=("model_index.json", "vae/*"))
    puller.pull()
    counted = scan_cache_dir(puller.cache)
    assert not counted.warnings
    (repository,) = counted.repos
    assert repository.repo_id == REPOSITORY
    (revision,) = repository.revisions
    assert revision.size_on_disk == sum(len(WANTED[path]) for path in WANTED if path != LARGE)
    assert revision.refs == {"main"}


def test_what_the_hubs_own_client_has_downloaded_is_not_downloaded_again(puller: Puller) -> None:
    snapshot_download(
        REPOSITORY, cache_dir=puller.cache, endpoint=puller.hub.endpoint, token=False, allow_patterns=list(WANTED)
    )
    assert puller.pull().came == 0
    assert is_installed(puller.manifest, puller.home)


def test_a_second_pull_asks_nobody(puller: Puller) -> None:
    puller.pull()
    puller.hub.requests.clear()
    assert puller.pull().came == 0
    assert not puller.hub.requests


def test_a_model_is_local_only_when_all_its_files_are_whole(puller: Puller) -> None:
    assert not is_installed(puller.manifest, puller.home)
    folder = puller.pull().lock.folder
    assert is_installed(puller.manifest, puller.home)
    with (folder / LARGE).open("r+b") as file:
        file.truncate(10)
    assert not is_installed(puller.manifest, puller.home)
    assert puller.pull().came == len(FILES[LARGE])
    assert (folder / LARGE).read_bytes() == FILES[LARGE]


def test_a_file_that_was_edited_in_place_is_noticed_at_the_next_load(puller: Puller) -> None:
    folder = puller.pull().lock.folder
    (folder / LARGE).write_bytes(bytes(len(FILES[LARGE])))
    with pytest.raises(WeightsUnavailable, match=r"changed on this machine.*pull tiny --verify") as caught:
        installed_weights(puller.manifest, puller.home)
    assert caught.value.code == "weights_changed"


def test_a_file_that_was_only_touched_is_accepted_and_not_hashed_again(puller: Puller) -> None:
    folder = puller.pull().lock.folder
    before = installed_weights(puller.manifest, puller.home)
    (folder / LARGE).touch()
    assert installed_weights(puller.manifest, puller.home) == before
    lock = json.loads((puller.home / "weights" / "tiny.lock.json").read_text())
    assert lock["files"][LARGE]["mtime_ns"] == (folder / LARGE).stat().st_mtime_ns


def test_damage_that_keeps_size_and_time_is_found_by_a_full_check_and_mended(puller: Puller) -> None:
    lock = puller.pull().lock
    file = lock.folder / LARGE
    before = file.stat().st_mtime_ns
    file.write_bytes(bytes(len(FILES[LARGE])))
    os.utime(file, ns=(before, before))
    assert installed_weights(puller.manifest, puller.home) is not None
    damaged = damaged_files(lock, lambda _: None)
    assert damaged == [LARGE]
    discard(lock, damaged)
    assert puller.pull().came == len(FILES[LARGE])
    assert damaged_files(lock, lambda _: None) == []


def test_a_damaged_file_goes_without_the_content_that_other_repositories_link_to(
    puller: Puller, tmp_path: Path
) -> None:
    lock = puller.pull().lock
    blob = (lock.folder / LARGE).resolve()
    shared = tmp_path / "shared" / blob.name  # as newer clients of the hub keep what repositories have in common
    shared.parent.mkdir()
    blob.rename(shared)
    blob.symlink_to(shared)
    discard(lock, [LARGE])
    assert shared.is_file()
    assert not blob.is_symlink()
    assert puller.pull().came == len(FILES[LARGE])
    assert shared.is_file()


def test_another_commit_upstream_is_told_and_taken_only_when_asked(puller: Puller) -> None:
    old = puller.pull().lock
    new = puller.hub.add(REPOSITORY, FILES | {LARGE: b"new" * 1000, "vae/extra.json": b"[]"})
    (told,) = news(puller.manifest, puller.home, hub=puller.client)
    assert old.commit[:12] in told
    assert new[:12] in told
    assert f"changed {LARGE}" in told
    assert "added vae/extra.json" in told
    assert puller.pull().lock.commit == old.commit
    updated = puller.pull(update=True)
    assert updated.lock.commit == new
    assert updated.came == 3000 + 2
    assert LARGE in updated.notes[0]
    assert news(puller.manifest, puller.home, hub=puller.client) == []


def test_lost_files_come_again_from_the_locked_commit_though_upstream_moved_on(puller: Puller) -> None:
    old = puller.pull().lock
    puller.hub.add(REPOSITORY, FILES | {LARGE: b"new"})
    discard(old, [LARGE])
    assert puller.pull().lock.commit == old.commit
    assert (old.folder / LARGE).read_bytes() == FILES[LARGE]


def test_another_wish_in_the_manifest_makes_the_lock_void(puller: Puller) -> None:
    puller.pull()
    puller.manifest = manifest_of(files=(*PATTERNS_WITHOUT_VAE,))
    assert not is_installed(puller.manifest, puller.home)
    assert puller.pull().came == 0


PATTERNS_WITHOUT_VAE = ("model_index.json", "transformer/*")


def test_a_renamed_repository_is_followed_and_told(puller: Puller) -> None:
    puller.hub.add("acme/other", FILES)
    puller.hub.renamed[REPOSITORY] = "acme/other"
    fetched = puller.pull()
    assert "was renamed to acme/other" in fetched.notes[0]
    assert is_installed(puller.manifest, puller.home)


def test_the_token_goes_to_the_hub_and_never_to_the_store_that_it_redirects_to(
    hub: LoopbackHub, puller: Puller
) -> None:
    hub.add(REPOSITORY, FILES, token="secret", store=True)
    puller.token = "secret"
    puller.pull()
    stored = [r for r in hub.requests if r.path.startswith("/store/")]
    assert stored
    assert {r.authorization for r in stored} == {None}
    assert {r.authorization for r in hub.requests if r not in stored} == {"Bearer secret"}


def test_progress_counts_every_byte_and_ends_with_all_of_them(puller: Puller) -> None:
    puller.pull()
    total = sum(map(len, WANTED.values()))
    last = puller.told[-1]
    assert (last.done, last.total) == (total, total)
    assert [d.done for d in puller.told] == sorted(d.done for d in puller.told)


def shipped(revision: str | None) -> Manifest:
    """A manifest of ours."""
    manifest = manifest_of(revision=revision)
    manifest._shipped = True
    return manifest


def test_a_first_pull_takes_the_commit_that_our_manifest_pins_and_an_update_follows_upstream(puller: Puller) -> None:
    [pinned] = puller.hub.repositories[REPOSITORY].commits
    newer = puller.hub.add(REPOSITORY, {**FILES, "vae/config.json": b'{"a": 1}'})
    puller.manifest = shipped(pinned)
    assert puller.pull().lock.commit == pinned
    assert news(puller.manifest, puller.home, hub=puller.client)[0].startswith(f"Commit {pinned[:12]} was locked")
    assert puller.pull(update=True).lock.commit == newer
    assert puller.pull().lock.commit == newer  # what is there stays


def test_a_pin_of_ours_costs_nobody_the_weights_that_are_there(puller: Puller) -> None:
    """Neither those that 0.1.0 locked, whose manifests pinned nothing, nor its sight of what this version locks."""
    puller.manifest = shipped(None)
    [old] = [puller.pull().lock]
    puller.manifest = shipped(puller.hub.add(REPOSITORY, {**FILES, "vae/config.json": b'{"a": 1}'}))
    puller.hub.requests.clear()
    assert is_installed(puller.manifest, puller.home)
    assert puller.pull().lock == old
    assert not puller.hub.requests
    assert puller.pull(update=True).lock.revision is None


def test_a_revision_in_ones_own_manifest_is_an_order(puller: Puller) -> None:
    first = puller.pull().lock.commit
    newer = puller.hub.add(REPOSITORY, {**FILES, "vae/config.json": b'{"a": 1}'})
    puller.manifest = manifest_of(revision=newer)
    assert not is_installed(puller.manifest, puller.home)
    assert puller.pull().lock.commit == newer
    puller.manifest = manifest_of(revision=first)
    assert puller.pull(update=True).lock.commit == first
