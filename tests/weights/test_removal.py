"""The removal of a model's weights: all of its own files, and none that another model here uses."""

from tests.fixtures.hub import Puller, manifest_of
from wan_mcp.weights.installed import is_installed
from wan_mcp.weights.removal import bytes_of, remove_weights


def test_a_removed_model_leaves_nothing_and_frees_what_it_took(puller: Puller) -> None:
    puller.pull()
    took = bytes_of(puller.manifest, puller.home)
    assert took > 0
    assert remove_weights(puller.manifest, puller.home, [puller.manifest]) == took
    assert not is_installed(puller.manifest, puller.home)
    assert bytes_of(puller.manifest, puller.home) == 0
    blobs = [file for file in puller.cache.glob("models--*/blobs/*") if file.is_file()]
    assert blobs == []
    assert list(puller.cache.glob("models--*/snapshots/*")) == []


def test_files_that_another_model_has_locked_stay(puller: Puller) -> None:
    other = manifest_of(files=("vae/*",)).model_copy(update={"name": "half"})
    puller.pull()
    whole = puller.manifest
    puller.manifest = other
    puller.pull()
    shared = bytes_of(other, puller.home)
    freed = remove_weights(whole, puller.home, [whole, other])
    assert is_installed(other, puller.home)
    assert freed > 0
    assert remove_weights(other, puller.home, [whole, other]) == shared


def test_a_model_that_was_removed_comes_again(puller: Puller) -> None:
    puller.pull()
    remove_weights(puller.manifest, puller.home, [])
    assert puller.pull().came > 0
    assert is_installed(puller.manifest, puller.home)


def test_the_removal_of_what_is_not_here_frees_nothing(puller: Puller) -> None:
    assert remove_weights(puller.manifest, puller.home, []) == 0
