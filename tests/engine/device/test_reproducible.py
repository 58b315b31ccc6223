"""Reproducible arithmetic on a CPU: bits do not depend on where numbers lie, and receipts say what they depend on."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import Bench, image_plan
from tests.support.patience import PATIENCE_S
from wan_mcp.engine.device import reproducible
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.device.reproducible import mode_for
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.hardware import processor as of_processors
from wan_mcp.hardware.processor import Processor, processor
from wan_mcp.media.receipts import read_receipt

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
OF_MATHS = ("MKL_", "OMP_", "KMP_", "GOMP_", "ONEDNN_", "DNNL_", "ATEN_")
PROCESSORS = {"this": {}, "an-old-one": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}}
"""This machine's processor, and an Intel processor that pretends to be of 2008.

Where MKL has kernels of its own for a processor, as on an Intel with AVX2, it does not look at alignment, and nothing
here could fail. On the old one it does, as on an AMD EPYC (Zen 5): the test of the control below shows it on either.
"""
LAYERS = {
    "aten::addmm",
    "aten::mm",
    "aten::bmm",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_mm",
    "aten::convolution",
    "aten::mkldnn_convolution",
    "aten::native_layer_norm",
    "aten::native_group_norm",
    "aten::embedding",
    "aten::gelu",
    "aten::silu",
    "aten::_softmax",
    "aten::_linalg_solve_ex",
    "wan_mcp::attend_self",
}
"""What every kind of layer, and the scheduler, computes with."""
DESCRIBE = "from wan_mcp.engine.device.device import resolve_device; print(resolve_device('cpu', {}).description)"


def in_a_process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with an environment that says nothing of how to compute but `variables`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OF_MATHS)}
    run = subprocess.run(
        [sys.executable, *arguments],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run


@functools.cache
def every_layer(name: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """What `tests.support.every_layer` found on one of the processors, and what it logged."""
    run = in_a_process("-m", "tests.support.every_layer", *arguments, **PROCESSORS[name])
    return json.loads(run.stdout.splitlines()[-1]), run.stderr


def described(threads: int = 0, **variables: str) -> str:
    """The description of the CPU in a process with these variables."""
    return in_a_process("-c", DESCRIBE.format(threads), **variables).stdout.strip()


def without_mkl() -> bool:
    return not torch.backends.mkl.is_available()


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize("name", PROCESSORS)
def test_no_layer_of_any_model_depends_on_where_its_numbers_lie(name: str) -> None:
    found, _ = every_layer(name)
    assert found["differing"] == {}
    assert LAYERS - found["tried"].keys() == set()
    assert found["mode"] != "off"


@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.skipif(without_mkl(), reason="torch without MKL")
def test_without_a_mode_of_mkl_matrix_products_do_depend_on_it() -> None:
    """The control: what the test above tries is what shows the fault, on the processor where there is one."""
    found, log = every_layer("an-old-one", "--late")
    assert found["mode"] == "off"
    assert "aten::addmm" in found["differing"]
    assert "MKL was used in this process before wan_mcp.engine was imported" in log


@pytest.mark.parametrize(
    ("vendor", "flags", "mode"),
    [
        (INTEL, "sse2 avx2 avx512f avx512bw", "AVX512,STRICT"),
        (INTEL, "sse2 avx2", "AVX2,STRICT"),
        (AMD, "sse2 avx2 avx512f avx512bw", "AVX2"),
        ("", "", "AVX2"),
    ],
)
def test_the_mode_is_the_one_that_costs_nothing_on_the_processor(vendor: str, flags: str, mode: str) -> None:
    assert mode_for(Processor("any", vendor, flags=frozenset(flags.split()))) == mode


@pytest.mark.parametrize("own", ["COMPATIBLE", "AUTO"])
def test_a_mode_that_a_user_has_set_stays(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", own)
    reproducible.enable()
    assert os.environ["MKL_CBWR"] == own


@pytest.mark.parametrize("before", ["", None])
def test_no_mode_and_an_empty_one_which_mkl_takes_for_off_are_replaced(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("MKL_CBWR", raising=False)
    else:
        monkeypatch.setenv("MKL_CBWR", before)
    reproducible.enable()
    assert os.environ["MKL_CBWR"] == mode_for(processor())


@pytest.mark.skipif(without_mkl(), reason="torch without MKL")
def test_the_description_of_a_cpu_has_the_mode_in_use_and_what_else_a_user_has_set() -> None:
    said = described(MKL_CBWR="COMPATIBLE", ONEDNN_MAX_CPU_ISA="AVX2")
    assert said.endswith(", MKL COMPATIBLE, ONEDNN_MAX_CPU_ISA=AVX2")
    assert processor().name in said


def test_the_number_of_threads_counts_and_not_who_chose_it() -> None:
    ours, theirs = described(1), described(OMP_NUM_THREADS="1")
    assert ours == theirs
    assert ", 1 thread, " in f"{ours}, "
    assert described(3) != ours


@pytest.mark.usefixtures("_threads")
def test_a_receipt_names_the_processor_its_threads_and_the_mode_of_mkl(bench: Bench, embedded: Path) -> None:
    settings = bench.settings.model_copy(update={"threads": 1})
    bench.runner = ModelRunner(settings, bench.catalog, embedded=embedded)
    receipt = read_receipt(Path(bench.run(image_plan()).artifacts[0].path))
    assert receipt is not None
    assert receipt["device"] == resolve_device("cpu", 1).description
    assert receipt["device"].startswith(f"cpu {torch.backends.cpu.get_cpu_capability()}, {processor().name}")
    assert ", 1 thread" in receipt["device"]


def test_a_processor_is_what_the_first_of_its_cores_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = (
        "processor\t: {}\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC 9755\n"
        "stepping\t: {}\nflags\t\t: fpu avx2 avx512bw\n\n"
    )
    (tmp_path / "cpuinfo").write_text(core.format(0, 1) + core.format(1, 7), encoding="utf-8")
    monkeypatch.setattr(of_processors, "CPUINFO", tmp_path / "cpuinfo")
    found = processor.__wrapped__()
    assert found == Processor("AMD EPYC 9755", AMD, "26-2-1", frozenset({"fpu", "avx2", "avx512bw"}))
    monkeypatch.setattr(of_processors, "CPUINFO", tmp_path / "none")
    elsewhere = processor.__wrapped__()
    assert elsewhere.name
    assert (elsewhere.vendor, elsewhere.signature, elsewhere.flags) == ("", "", frozenset())
