"""No shipped model is without its proof."""

from tests.families.conftest import OTHERS, SAVE, SHIPPED
from tests.families.test_images import PIPELINES


def test_every_model_of_another_family_has_a_tiny_repository() -> None:
    assert not SHIPPED.broken
    assert {SHIPPED.get(name).weights.repository for name in OTHERS} == set(SAVE)


def test_every_image_model_has_its_classes_named() -> None:
    assert set(PIPELINES) <= set(OTHERS)
