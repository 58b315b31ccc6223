"""Every way in which a package can be wrong ends in blocks that run eagerly, and a line in the log."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.aot_packages import CPU, IN_FP8, IN_PLAIN, rewrite
from wan_mcp.engine.aot.cache_key import cache_key_of
from wan_mcp.engine.aot.registry import PackageRegistry
from wan_mcp.engine.aot.signature import ACTIVATIONS, example_inputs, example_weights
from wan_mcp.engine.transformer.block import ExportableBlock, run_block

pytestmark = pytest.mark.timeout(1800)  # see test_arithmetic
Open = Callable[[Path], PackageRegistry]
Spoil = Callable[[Path, Path], None]
"""Is given the package and its metadata."""


def other_torch(package: Path, metadata: Path) -> None:
    rewrite(metadata, lambda content: content["identity"].update(torch="2.11.0+cu130"))


def other_processor(package: Path, metadata: Path) -> None:
    rewrite(metadata, lambda content: content["identity"]["device"]["features"].append("avx1024"))


def other_source(package: Path, metadata: Path) -> None:
    rewrite(metadata, lambda content: content["identity"].update(source="0" * 64))


def other_inputs(package: Path, metadata: Path) -> None:
    rewrite(metadata, lambda content: content["inputs"][0].update(shape=[1, "tokens", 128]))


def fewer_inputs(package: Path, metadata: Path) -> None:
    rewrite(metadata, lambda content: content["inputs"].pop())


def truncated(package: Path, metadata: Path) -> None:
    package.write_bytes(package.read_bytes()[:-1000])


def no_archive(package: Path, metadata: Path) -> None:
    package.write_bytes(b"no archive")
    digest = hashlib.sha256(b"no archive").hexdigest()
    rewrite(metadata, lambda content: content.update(package_sha256=digest))


def another_package(package: Path, metadata: Path) -> None:
    other = package.with_name(f"{cache_key_of(IN_FP8, CPU).hash}.pt2")
    shutil.copyfile(other, package)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    rewrite(metadata, lambda content: content.update(package_sha256=digest))


def garbage_beside_it(package: Path, metadata: Path) -> None:
    metadata.write_bytes(b"\xff\x00 no JSON")


def unknown_words_beside_it(package: Path, metadata: Path) -> None:
    rewrite(metadata, lambda content: content.update(surprise=1))


def others_may_write_it(package: Path, metadata: Path) -> None:
    package.chmod(0o666)


def others_may_write_beside_it(package: Path, metadata: Path) -> None:
    package.parent.chmod(0o777)


def somewhere_else(package: Path, metadata: Path) -> None:
    elsewhere = package.rename(package.parents[1] / "elsewhere.pt2")
    package.symlink_to(elsewhere)


WRONG: list[tuple[Spoil, str]] = [
    (other_torch, "made for another torch"),
    (other_processor, "made for another device"),
    (other_source, "made for another source"),
    (other_inputs, "its inputs do not match the block"),
    (fewer_inputs, "its inputs do not match the block"),
    (truncated, "its content does not match its metadata"),
    (no_archive, "it cannot be loaded"),
    (another_package, "its metadata names package"),
    (garbage_beside_it, "its metadata cannot be read"),
    (unknown_words_beside_it, "its metadata cannot be read"),
    (others_may_write_it, "other users can write to"),
    (others_may_write_beside_it, "other users can write to packages"),
    (somewhere_else, "other users can write to"),
]


@pytest.mark.parametrize(("spoil", "reason"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_package_is_set_aside_and_blocks_run_eagerly(
    spoil: Spoil, reason: str, home: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    packages = opened(home)
    name = cache_key_of(IN_PLAIN, CPU).hash
    package, metadata = (home / "packages" / f"{name}{suffix}" for suffix in (".pt2", ".json"))
    spoil(package, metadata)
    with caplog.at_level(logging.WARNING):
        assert packages.run({IN_PLAIN}, CPU) is run_block
    assert f"package {name} is set aside" in caplog.text and reason in caplog.text
    assert not packages.ready(IN_PLAIN, CPU) and packages.compiled({IN_PLAIN}, CPU) == []
    assert not package.exists() and not metadata.exists()
    assert package.with_name(f"{package.name}.broken").is_symlink() or package.with_name(f"{name}.pt2.broken").is_file()
    assert opened(home).run({IN_PLAIN}, CPU) is run_block  # the next engine does not trip over it


def test_with_another_torch_there_is_no_package(home: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key_of(IN_PLAIN, CPU)
    cache_key_of.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.0")
        after = opened(home)
        assert cache_key_of(IN_PLAIN, CPU).hash != before.hash
        assert not after.ready(IN_PLAIN, CPU) and after.run({IN_PLAIN}, CPU) is run_block
    cache_key_of.cache_clear()
    assert opened(home).ready(IN_PLAIN, CPU)


def wider(tensors: list[Tensor]) -> None:
    tensors[0] = torch.cat([tensors[0], tensors[0]], -1)


FIRST_WEIGHT = len(ACTIVATIONS)


def in_other_numbers(tensors: list[Tensor]) -> None:
    tensors[FIRST_WEIGHT] = tensors[FIRST_WEIGHT].double()


def transposed(tensors: list[Tensor]) -> None:
    tensors[0] = tensors[0].transpose(1, 2).contiguous().transpose(1, 2)


def fewer_angles(tensors: list[Tensor]) -> None:
    place = ACTIVATIONS.index("cos")
    tensors[place] = tensors[place][:-1]


def a_column_first_weight(tensors: list[Tensor]) -> None:
    place = next(place for place, each in enumerate(tensors[FIRST_WEIGHT:], FIRST_WEIGHT) if each.dim() == 2)
    tensors[place] = tensors[place].t().contiguous().t()


UNFIT: list[tuple[Callable[[list[Tensor]], None], str, bool]] = [
    (wider, "hidden is", False),
    (in_other_numbers, "scale_shift_table is torch.float64", True),
    (transposed, "the strides of hidden", True),
    (fewer_angles, "cos is", False),
    (a_column_first_weight, "the strides of attn1.qkv.weight", True),
]


@pytest.mark.parametrize(("change", "reason", "sound"), UNFIT, ids=lambda value: getattr(value, "__name__", ""))
def test_what_does_not_fit_a_package_never_reaches_it(
    change: Callable[[list[Tensor]], None],
    reason: str,
    sound: bool,
    home: Path,
    opened: Open,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run: Any = opened(home).runner(IN_PLAIN, CPU)
    reached: list[int] = []
    real = run._call

    def counted(inputs: list[Tensor]) -> Any:
        reached.append(len(inputs))
        return real(inputs)

    run._call = counted
    with torch.no_grad():
        tensors = [*example_inputs(IN_PLAIN, 20, 7, CPU), *example_weights(IN_PLAIN, CPU)]
        right = run(IN_PLAIN, *tensors[:FIRST_WEIGHT], tensors[FIRST_WEIGHT:])
        assert len(reached) == 1
        change(tensors)
        if sound:  # eagerly it is what it was
            torch.testing.assert_close(
                run(IN_PLAIN, *tensors[:FIRST_WEIGHT], tensors[FIRST_WEIGHT:]), right, atol=1e-5, rtol=1e-4
            )
        else:  # eagerly it is a proper error
            with pytest.raises(RuntimeError):
                run(IN_PLAIN, *tensors[:FIRST_WEIGHT], tensors[FIRST_WEIGHT:])
    assert len(reached) == 1 and reason in caplog.text


def test_weights_may_come_and_go(home: Path, opened: Open) -> None:
    run: Any = opened(home).runner(IN_PLAIN, CPU)
    with torch.no_grad():
        inputs = example_inputs(IN_PLAIN, 20, 7, CPU)
        for _ in range(3):
            weights = example_weights(IN_PLAIN, CPU)
            run(IN_PLAIN, *inputs, weights)
            assert len(run._bound) == len(weights)
            del weights
            assert run._bound == {}  # nothing is kept alive, and no new tensor is taken for an old one


def test_a_package_that_fails_while_it_runs_costs_nothing_but_time(
    home: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    packages = opened(home)
    run: Any = packages.runner(IN_PLAIN, CPU)

    def fail(inputs: list[Tensor]) -> list[Tensor]:
        raise RuntimeError("run_func_ API call failed")

    run._call = fail
    with torch.no_grad():
        inputs, weights = example_inputs(IN_PLAIN, 20, 7, CPU), example_weights(IN_PLAIN, CPU)
        for _ in range(2):
            made = run(IN_PLAIN, *inputs, weights)
            torch.testing.assert_close(made, ExportableBlock(IN_PLAIN)(*inputs, weights))
    assert "set aside and blocks run eagerly: it failed" in caplog.text
    assert not packages.ready(IN_PLAIN, CPU) and packages.compiled({IN_PLAIN}, CPU) == []


def test_where_memory_is_short_the_job_hears_of_it_and_the_package_stays(home: Path, opened: Open) -> None:
    packages = opened(home)
    run: Any = packages.runner(IN_PLAIN, CPU)

    def fail(inputs: list[Tensor]) -> list[Tensor]:
        raise RuntimeError("run_func_ API call failed")

    run._call = fail
    with pytest.MonkeyPatch.context() as patch, pytest.raises(torch.OutOfMemoryError):

        def out_of_memory(*_: object) -> None:
            raise torch.OutOfMemoryError("no more")

        patch.setattr("wan_mcp.engine.aot.package_runner.run_block", out_of_memory)
        run(IN_PLAIN, *example_inputs(IN_PLAIN, 20, 7, CPU), example_weights(IN_PLAIN, CPU))
    assert packages.ready(IN_PLAIN, CPU) and run.works


def test_what_fails_only_while_it_is_recorded_is_no_fault_of_the_package(
    home: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = opened(home)
    run: Any = packages.runner(IN_PLAIN, CPU)
    call, failure = run._call, RuntimeError("run_func_ API call failed")

    def fail(inputs: list[Tensor]) -> list[Tensor]:
        raise failure

    inputs, weights = example_inputs(IN_PLAIN, 20, 7, CPU), example_weights(IN_PLAIN, CPU)
    with torch.no_grad():
        wanted = run(IN_PLAIN, *inputs, weights)
        run._call = fail
        with monkeypatch.context() as patch, pytest.raises(RuntimeError) as raised:
            patch.setattr("wan_mcp.engine.aot.package_runner.is_recorded", lambda device: True)
            run(IN_PLAIN, *inputs, weights)
        assert raised.value is failure
        run._call = call
        assert torch.equal(run(IN_PLAIN, *inputs, weights), wanted)
    assert packages.ready(IN_PLAIN, CPU) and run.works
