"""The documentation holds together: what it shows is there, and what is generated is up to date."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hatch_build import DescriptionHook
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "claude_desktop_config.example.json"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_example_configuration_is_the_one_on_the_page_and_has_one_line_to_edit() -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert "".join(f"    {line}\n" for line in example.splitlines()) in page
    [line] = [line for line in example.splitlines() if "EDIT" in line]
    entry = json.loads(example)["mcpServers"]["wan"]
    assert entry["command"] in line
    assert entry["args"] == ["stdio"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_link_to_what_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def generate_docs(*arguments: str | Path) -> tuple[int, str]:
    command = [sys.executable, ROOT / "scripts" / "generate_docs.py", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return run.returncode, run.stdout + run.stderr


def test_every_generated_part_is_written_and_checked_by_one_command(tmp_path: Path) -> None:
    generated = {page: page.read_text(encoding="utf-8") for page in PAGES}
    generated = {page: text for page, text in generated.items() if "<!-- generated:" in text}
    parts = sorted(part for text in generated.values() for part in re.findall("<!-- generated: (.*?);", text))
    assert parts == [
        "bench",
        "cards",
        "commands",
        "decisions",
        "emulated",
        "h200",
        "hosts",
        "models",
        "presets",
        "quality",
        "quality on a GPU",
        "seconds",
        "settings",
        "tools",
    ]
    for page, text in generated.items():
        copy = tmp_path / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(re.sub("(<!-- generated: .* -->\n)", "\\1stale\n", text), encoding="utf-8")
    code, said = generate_docs("--check", tmp_path)
    assert code == 1
    assert sorted(re.findall("'(.*)' is out of date; run make docs", said)) == parts
    assert generate_docs(tmp_path)[0] == 0
    assert {page: (tmp_path / page.relative_to(ROOT)).read_text(encoding="utf-8") for page in generated} == generated


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_source_files_and_programs_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    sources = ROOT / "src" / "wan_mcp"
    for name in re.findall(r"`([\w-]+(?:/[\w-]+)+\.py)`", text):
        assert any((folder / name).is_file() for folder in (ROOT, sources, sources / "engine")), name
    for module in re.findall(r"python -m ([a-z]\w+\.[\w.]+)", text):
        assert any((ROOT / module.replace(".", "/")).with_suffix(end).exists() for end in (".py", "")), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_pages_name_in_a_source_file_is_defined_there(page: Path) -> None:
    for name, file in re.findall(r"`([\w.]+)` in `([\w/]+\.py)`", page.read_text(encoding="utf-8")):
        [source, *_] = [path for path in (ROOT / "src/wan_mcp" / file, ROOT / file) if path.exists()]
        defined = rf"^\s*((async )?def|class) {name.rpartition('.')[2]}\b|^\s*{name}\b.*[:=]"
        assert re.search(defined, source.read_text(encoding="utf-8"), re.MULTILINE), f"{name} in {file}"


def test_the_description_of_the_package_has_absolute_links_to_files_that_are_there() -> None:
    facts: dict[str, Any] = {"urls": {"Repository": "https://code.example/me/wan"}}
    DescriptionHook(str(ROOT), {}).update(facts)
    text = facts["readme"]["text"]
    assert facts["readme"]["content-type"] == "text/markdown"
    outside_code = re.sub(r"^    .*$|`[^`]*`", "", text, flags=re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", outside_code)
    assert [target for target in targets if not target.startswith(("https://", "http://"))] == []
    assert not re.search(r"<(a|img)\s|^\[[^\]]+\]:", outside_code, re.MULTILINE), "the hook knows Markdown's links only"
    ours = [target for target in targets if target.startswith("https://code.example/")]
    assert len(ours) > 10
    for target in ours:
        kind, _, path = target.removeprefix("https://code.example/me/wan/").partition("/main/")
        file = path.partition("#")[0]
        assert (ROOT / file).exists()
        assert kind == ("raw" if file.endswith((".png", ".gif")) else "blob")


def test_the_addresses_of_the_project_belong_to_one_place() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    for address in urls.values():
        assert address.startswith(urls["Repository"])
        file = address.removeprefix(urls["Repository"]).removeprefix("/blob/main/")
        assert not file or (ROOT / file).is_file()


def test_settings_are_on_one_page_and_the_readme_names_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/settings.md" in readme
    assert "generated: settings" not in readme
