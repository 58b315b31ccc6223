"""Adapters that a request names: found only where they may lie, and only if they are files of tensors."""

import os
from pathlib import Path

import pytest

from wan_mcp.errors import BadRequest
from wan_mcp.schema.requests import LoraRequest
from wan_mcp.weights.lora_files import LoraFiles

HEADER = b'{"transformer.blocks.0.attn1.to_q.lora_A.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
TENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """The folder of adapters that are chosen by name, with one of them; another lies outside."""
    folder = tmp_path / "home" / "loras"
    folder.mkdir(parents=True)
    (folder / "good.safetensors").write_bytes(TENSORS)
    (tmp_path / "secret.safetensors").write_bytes(TENSORS)
    return folder


def test_an_adapter_is_found_by_name_and_by_path(named: Path) -> None:
    files = LoraFiles(named, [])
    for lora in (LoraRequest(name="good"), LoraRequest(path=str(named / "good.safetensors"))):
        assert files.find(lora) == named / "good.safetensors"


@pytest.mark.parametrize("way", ["name", "path"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(named: Path, kind: str, way: str) -> None:
    odd = named / "odd.safetensors"
    match kind:
        case "pipe":
            os.mkfifo(odd)
        case "folder":
            odd.mkdir()
        case "device":
            odd.symlink_to("/dev/zero")
    lora = LoraRequest(name="odd") if way == "name" else LoraRequest(path=str(odd))
    with pytest.raises(BadRequest, match=r"is not a|no lora file|outside the allowed"):
        LoraFiles(named, []).find(lora)


@pytest.mark.parametrize(
    "path",
    ["{0}/../../secret.safetensors", "{0}/link.safetensors", "/proc/self/cwd/x", "{0}/out/secret.safetensors", "\0"],
)
def test_a_path_leads_out_of_the_allowed_folders_by_no_way(named: Path, path: str) -> None:
    (named / "link.safetensors").symlink_to(named.parents[1] / "secret.safetensors")
    (named / "out").symlink_to(named.parents[1])
    with pytest.raises(BadRequest, match=r"outside the allowed folders|not a usable path"):
        LoraFiles(named, []).find(LoraRequest(path=path.format(named)))


@pytest.mark.parametrize("name", ["../good", "/etc/passwd", "good/../good", "*", "goo?", "", "."])
def test_a_name_is_a_name_and_no_path_or_pattern(named: Path, name: str) -> None:
    with pytest.raises(BadRequest):
        LoraFiles(named, []).find(LoraRequest(name=name or None))


def test_a_file_that_is_written_again_has_another_hash(named: Path) -> None:
    files, file = LoraFiles(named, []), named / "good.safetensors"
    before = files.sha256(file)
    about = file.stat()
    file.write_bytes(TENSORS[:-1] + b"\x01")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))  # as copying with its times does
    assert files.sha256(file) != before
