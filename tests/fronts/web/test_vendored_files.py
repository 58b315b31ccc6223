"""The files of the page: its libraries are those that were recorded, and no file asks another host for anything."""

import hashlib
import json
import re
from pathlib import Path

import wan_mcp.fronts.web as web

STATIC = Path(web.__file__).parent / "static"
VENDOR = STATIC / "vendor"
RECORD = json.loads((VENDOR / "vendored.json").read_text())


def test_each_library_is_the_recorded_file_with_its_licence() -> None:
    for name, entry in RECORD.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert (VENDOR / entry["licence_file"]).read_text().strip(), name


def test_no_library_lies_there_unrecorded() -> None:
    licences = {entry["licence_file"] for entry in RECORD.values()}
    assert {file.name for file in VENDOR.iterdir()} == {*RECORD, *licences, "vendored.json"}


def test_no_file_of_the_page_names_another_host() -> None:
    for file in [*(STATIC / "js").rglob("*.js"), *(STATIC / "css").glob("*.css")]:
        assert not re.findall(r"""["'(](?:https?:)?//[a-z]""", file.read_text()), file.name


def test_no_module_of_the_page_sets_html_or_is_longer_than_300_lines() -> None:
    for file in (STATIC / "js").rglob("*.js"):
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function", text), file.name
        assert file.name == "strings.js" or text.count("\n") <= 300, file.name


def test_every_sentence_is_shown_somewhere() -> None:
    modules = {file.name: file.read_text() for file in (STATIC / "js").rglob("*.js")}
    sections = re.findall(r"^  (\w+): \{\n(.*?)^  \},$", modules.pop("strings.js"), re.MULTILINE | re.DOTALL)
    assert sections
    code = "\n".join(modules.values())
    for section, sentences in sections:
        for name in re.findall(r"^    (\w+):", sentences, re.MULTILINE):
            assert re.search(rf"\bS\.{section}(?:\.{name}\b|\[)", code), f"{section}.{name}"
