"""Families of packages: what is wrong with one is said, and costs no other."""

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.served_models import SHIPPED
from tests.support import tiny_models as models
from tests.support.distributions import RECORD, Site
from tests.support.loading import context_of
from wan_mcp.catalog.families import FAMILIES, Capabilities, FamilyRegistry, FamilySpec
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import default_shape, fits
from wan_mcp.engine.families.image.image_families import IMAGE_FAMILIES
from wan_mcp.engine.families.protocol import FamilyRunner, LoadContext
from wan_mcp.engine.families.registry import aot_targets, load_model
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.settings import Settings


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(vars(module).get("__file__"))]:
        del sys.modules[name]


@pytest.fixture
def registry() -> FamilyRegistry:
    return FamilyRegistry([FamilySpec(name="own", tasks=frozenset({Task.TEXT_TO_IMAGE}), loader="own:load")])


def test_a_family_of_a_package_stands_beside_ours_and_names_its_package(site: Site, registry: FamilyRegistry) -> None:
    site.add_sound("ltx")
    assert [family.name for family in registry] == ["own", "ltx"]
    family = registry.get("ltx")
    assert (family.package, family.loader) == ("family-ltx 2.5", "family_ltx:load")
    assert family.makes(Kind.VIDEO) and not family.makes(Kind.IMAGE)
    assert family.capabilities == Capabilities()
    assert registry.broken == {}


def test_a_package_that_is_installed_later_is_found(site: Site, registry: FamilyRegistry) -> None:
    with pytest.raises(ValueError, match="no family 'later'; there are: own"):
        registry.get("later")
    site.add_sound("later")
    assert registry.get("later").package == "family-later 2.5"


@pytest.mark.parametrize(
    ("name", "content", "value", "why"),
    [
        ("raises", "import nothing_of_this_name", "", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("leaves", "import sys\nsys.exit(3)", "", "SystemExit: 3"),
        ("absent", "", "family_absent:FAMILY", "AttributeError: module 'family_absent' has no attribute 'FAMILY'"),
        ("wrong", "FAMILY = 3", "", "TypeError: family_wrong:FAMILY is a int, not a FamilySpec"),
        ("other", RECORD.format(name="another", module="x"), "", "its record has another name: 'another'"),
        ("own", RECORD.format(name="own", module="x"), "", "wan-mcp has a family of this name; it must have another"),
        ("unclear", RECORD.format(name="unclear", module="no module"), "", "loader: must match the pattern ^[A-Za-z_]"),
    ],
)
def test_a_package_that_cannot_be_used_costs_its_own_family_only(
    site: Site,
    registry: FamilyRegistry,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: str,
    value: str,
    why: str,
) -> None:
    site.add(name, content, value=value)
    site.add_sound("ltx")
    with caplog.at_level(logging.WARNING):
        assert [family.name for family in registry] == ["own", "ltx"]
        assert [family.name for family in registry] == ["own", "ltx"]
    [said] = registry.broken.values()
    assert said.startswith(f"the family '{name}' of family-{name} 2.5 cannot be used: ")
    assert why in said
    assert [record.message for record in caplog.records] == [said], "said once"
    if name == "own":
        assert registry.get("own").package == ""
    else:
        with pytest.raises(ValueError, match="cannot be used") as refusal:
            registry.get(name)
        assert str(refusal.value) == said


def test_two_packages_with_one_family_are_both_refused(site: Site, registry: FamilyRegistry) -> None:
    for module in ("one", "two"):
        site.add("ltx", RECORD.format(name="ltx", module=module), module=module)
    assert registry.broken == {
        "ltx": "the family 'ltx' of one 2.5 and two 2.5 cannot be used: only one package may add a family of this "
        "name; uninstall the others"
    }


def test_the_page_on_families_names_all_that_a_package_is_given_and_asked_for() -> None:
    page = (Path(__file__).parents[3] / "docs" / "families.md").read_text(encoding="utf-8")
    asked = [name for name in vars(FamilyRunner) if not name.startswith("_")]
    given = [name for name in (*vars(LoadContext), *LoadContext.__annotations__) if not name.startswith("_")]
    for name in {*asked, *given, *Capabilities.model_fields, *FamilySpec.model_fields} - {"package", "capabilities"}:
        assert re.search(rf"\b{name}\b", page), name


def test_the_records_of_our_image_families_name_the_tasks_of_their_pipelines() -> None:
    records = {family.name: family.tasks for family in FAMILIES if family.name in IMAGE_FAMILIES}
    assert records == {name: set(family.pipelines) for name, family in IMAGE_FAMILIES.items()}


@pytest.mark.parametrize("name", sorted(SHIPPED.manifests))
def test_the_code_of_every_shipped_model_is_there(name: str) -> None:
    family = SHIPPED.get(name).family
    assert family.package == ""
    for reference in filter(None, (family.loader, family.aot_targets)):
        module, _, function = reference.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


LOADERS = """
def nothing(context):
    return None

class Half:
    def run(self, job_id, plan, report):
        return None

def half(context):
    return Half()
"""


@pytest.mark.parametrize(
    ("loader", "why"),
    [
        ("absent_module:load", "absent_module:load: ModuleNotFoundError: No module named 'absent_module'"),
        ("outside_loaders:absent", "outside_loaders:absent: AttributeError: "),
        ("outside_loaders:nothing", "outside_loaders:nothing returns a NoneType, which needs all of: close, forget, "),
        ("outside_loaders:half", "outside_loaders:half returns a Half, which needs all of: "),
    ],
)
@pytest.mark.usefixtures("site")
def test_code_that_is_no_loader_fails_its_job_and_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, why: str
) -> None:
    (tmp_path / "outside_loaders.py").write_text(LOADERS, encoding="utf-8")
    context = context_of(manifest_of(monkeypatch, loader=loader, package="ltx-family 2.5"), tmp_path)
    with pytest.raises(JobFailed) as failure:
        load_model(context)
    assert failure.value.code == "family_broken"
    assert why in str(failure.value)
    assert str(failure.value).startswith("The code of the family 'ltx' cannot be used (")
    assert str(failure.value).endswith("; install ltx-family 2.5 again.")


def test_a_family_without_compiled_blocks_has_nothing_to_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(monkeypatch, loader="absent_module:load")
    assert aot_targets(manifest, Settings(home=tmp_path), context_of(manifest, tmp_path).device, "auto") == []


def test_a_family_that_can_more_is_named_where_its_capability_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"loader": "x:load", "capabilities": Capabilities(loras=True)}
    tables = manifest_of(monkeypatch, **more).model_dump(by_alias=True, exclude_none=True)
    Manifest.model_validate(tables | {"limits": {"loras": 1}})
    tables["pipeline"]["family"] = "z-image"
    with pytest.raises(ValueError, match=r"limits\.loras is for the families 'wan', 'ltx'"):
        Manifest.model_validate(tables | {"tasks": ["text-to-image"], "limits": {"loras": 1}})


def test_turbo_is_for_families_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of(monkeypatch, loader="x:load")
    tables = manifest.model_dump(by_alias=True, exclude_none=True)
    tables["pipeline"]["turbo"] = True
    with pytest.raises(ValueError, match=r"pipeline\.turbo is for the family 'wan'"):
        Manifest.model_validate(tables)


def test_a_manifest_of_images_may_still_say_turbo_which_nobody_can_ask_for() -> None:
    tables = SHIPPED.get("z-image-turbo").model_dump(by_alias=True, exclude_none=True)
    tables["pipeline"]["turbo"] = True
    assert Manifest.model_validate(tables).pipeline.turbo


@pytest.mark.parametrize("offload", [False, True])
def test_a_family_that_cannot_offload_needs_room_for_all_of_its_weights(
    monkeypatch: pytest.MonkeyPatch, offload: bool
) -> None:
    small = manifest_of(monkeypatch, loader="x:load", capabilities=Capabilities(offload=offload))
    weights = small.weights.model_copy(update={"memory_bytes": {"bf16": 20 * 10**9}})
    manifest = small.model_copy(update={"weights": weights})
    assert fits(manifest, 12 * 10**9, "bf16", default_shape(manifest)) is offload


def manifest_of(monkeypatch: pytest.MonkeyPatch, **record: Any) -> Manifest:
    """A manifest of a family with this record, which ours stand beside."""
    family = FamilySpec(name="ltx", tasks=frozenset({Task.TEXT_TO_VIDEO}), **record)
    monkeypatch.setattr("wan_mcp.catalog.manifest.FAMILIES", FamilyRegistry([*FAMILIES, family]))
    return models.manifest("tiny", ["text-to-video"], pipeline={"family": "ltx"})
