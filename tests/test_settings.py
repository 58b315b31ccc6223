"""Settings from the environment: empty variables, and words in any case."""

import pytest
from pydantic import ValidationError

from wan_mcp.jobs.devices import named
from wan_mcp.settings import ENV_PREFIX, KEPT_BLANKS, Settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{ENV_PREFIX}{name.upper()}", raising=False)


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - KEPT_BLANKS))
def test_an_empty_variable_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Settings()
    monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", "")
    assert Settings() == usual


def test_no_picture_folders_are_an_empty_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().image_dirs
    monkeypatch.setenv("WAN_MCP_IMAGE_DIRS", "")
    assert Settings().image_dirs == ()


def test_an_engine_receives_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(image_dirs=(), threads=3)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [("device", "CUDA:1", "cuda:1"), ("precision", "Full", "full"), ("log_level", "debug", "DEBUG")],
)
def test_words_of_settings_mean_the_same_in_any_case(
    name: str, written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", written)
    assert getattr(Settings(), name) == meant


def test_a_device_that_cannot_be_is_refused_with_those_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN_MCP_DEVICE", "tpu")
    with pytest.raises(
        ValidationError, match="must be auto, cpu, cuda, or cuda: with numbers, such as cuda:0 or cuda:0,2"
    ):
        Settings()


@pytest.mark.parametrize("written", ["cuda:0,2", "cuda:0,cuda:2", "cuda:0, 2", "CUDA:0,2"])
def test_some_gpus_are_named_in_one_setting(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN_MCP_DEVICE", written)
    assert named(Settings().device) == ("cuda:0", "cuda:2")


@pytest.mark.parametrize("written", ["cuda:0,cuda:00", "cuda:1,2,1"])
def test_a_gpu_that_is_named_twice_is_refused(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN_MCP_DEVICE", written)
    with pytest.raises(ValidationError, match=r"names cuda:\d twice; a GPU has one engine"):
        Settings()


@pytest.mark.parametrize("written", ["cuda:0,cpu", "cpu,cpu", "auto,cuda:1", "cuda:0,", "cuda:0;2", "cuda,1", "0,1"])
def test_a_list_that_is_not_one_of_gpus_is_refused(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN_MCP_DEVICE", written)
    with pytest.raises(ValidationError, match="cuda:0,2"):
        Settings()
