"""Weights come to a GPU as they were, whatever their kind and size."""

import pytest
import torch
from torch import Tensor, nn

from wan_mcp.engine.device.upload import Uploader, upload, upload_module

CPU = torch.device("cpu")
BUFFER_BYTES = 4096  # small, so that tensors need several


@pytest.fixture(scope="module")
def uploader() -> Uploader:
    """Threads whose buffers are plain memory, as there is no GPU to pin for."""
    return Uploader(CPU, threads=3, buffer_bytes=BUFFER_BYTES)


@pytest.fixture(autouse=True)
def _every_size_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wan_mcp.engine.device.upload.WORTHWHILE_BYTES", 1)


def of_bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


KINDS = [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool]


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_tensors_arrive_bit_for_bit(uploader: Uploader, dtype: torch.dtype) -> None:
    shapes = {"less than a buffer": (3, 5), "one": (BUFFER_BYTES,), "many and a rest": (7, 13, 257), "empty": (0, 4)}
    sent = {name: torch.randn(shape).mul(50).to(dtype) for name, shape in shapes.items()}
    came = uploader.upload(sent)
    assert list(came) == list(sent)
    for name, tensor in sent.items():
        assert came[name].dtype == dtype and came[name].shape == tensor.shape
        assert torch.equal(of_bytes(came[name]), of_bytes(tensor)), name


def test_views_transposed_and_single_numbers_arrive_too(uploader: Uploader) -> None:
    whole = torch.arange(6000.0).view(60, 100)
    sent = {"rows": whole[3:7], "transposed": whole.T, "columns": whole[:, ::2], "one number": torch.tensor(3.5)}
    for name, tensor in uploader.upload(sent).items():
        assert torch.equal(tensor, sent[name]), name


def test_a_broken_source_fails_and_the_next_upload_works(uploader: Uploader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk does not answer")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="does not answer"):
        broken.setattr(Uploader, "_copy", fail)
        uploader.upload({"weight": torch.ones(9000)})
    assert torch.equal(uploader.upload({"weight": torch.ones(9000)})["weight"], torch.ones(9000))


def test_a_module_on_the_cpu_stays_as_it_is() -> None:
    module = nn.Linear(4, 4)
    weight = module.weight
    assert upload_module(module, CPU) is module and module.weight is weight
    assert upload({"weight": weight}, CPU)["weight"] is weight


@pytest.mark.gpu
def test_a_module_on_the_gpu_keeps_its_ties_and_its_bits() -> None:
    module = nn.Sequential(nn.Embedding(3000, 700), nn.Linear(700, 3000), nn.BatchNorm1d(8))
    module[1].weight = module[0].weight
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    upload_module(module, torch.device("cuda:0"))
    assert module[1].weight is module[0].weight
    for name, tensor in module.state_dict().items():
        assert tensor.is_cuda and torch.equal(tensor.cpu(), before[name]), name
