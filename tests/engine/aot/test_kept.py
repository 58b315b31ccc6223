"""The cache of test packages returns what was compiled from this source; anything else is compiled again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.aot_packages import IN_FP8, IN_PLAIN, rewrite, wanted
from tests.support.kept_packages import keep, seed

pytestmark = pytest.mark.timeout(1800)  # see test_arithmetic
NAME = wanted(IN_PLAIN).name


def file_of(cache: Path, suffix: str) -> Path:
    [file] = cache.rglob(f"{NAME}{suffix}")
    return file


def test_what_was_kept_is_seeded_byte_for_byte_for_this_user_alone(home: Path, tmp_path: Path) -> None:
    cache, fresh = tmp_path / "cache", tmp_path / "fresh"
    assert seed(fresh, cache) == []
    keep(home, cache)
    assert sorted(seed(fresh, cache)) == sorted(wanted(kind).name for kind in (IN_PLAIN, IN_FP8))
    for file in (home / "packages").glob("*.pt2"):
        copy = fresh / "packages" / file.name
        assert copy.read_bytes() == file.read_bytes()
        described, copied = [json.loads(each.with_suffix(".json").read_text()) for each in (file, copy)]
        assert copied == described
        assert (copy.stat().st_mode | copy.with_suffix(".json").stat().st_mode) & 0o077 == 0


def cut_short(cache: Path) -> None:
    file = file_of(cache, ".pt2")
    file.write_bytes(file.read_bytes()[:-1])


def writable_by_others(cache: Path) -> None:
    file_of(cache, ".pt2").chmod(0o666)


def of_another_torch(cache: Path) -> None:
    rewrite(file_of(cache, ".json"), lambda content: content["identity"].update(torch="1.0"))


def without_a_sidecar(cache: Path) -> None:
    file_of(cache, ".json").unlink()


@pytest.mark.parametrize("spoil", [cut_short, writable_by_others, of_another_torch, without_a_sidecar])
def test_a_wrong_package_in_the_cache_is_not_taken(spoil: Callable[[Path], None], home: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    keep(home, cache)
    spoil(cache)
    assert seed(tmp_path / "fresh", cache) == [wanted(IN_FP8).name]
    keep(home, cache)  # a later run mends the cache
    assert NAME in seed(tmp_path / "later", cache)


def test_another_compiler_has_its_own_packages(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(home, tmp_path / "cache")
    other = tmp_path / "other-g++"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("CXX", str(other))
    assert seed(tmp_path / "fresh", tmp_path / "cache") == []
