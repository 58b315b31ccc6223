"""Every key of a manifest is read by something: one that nothing reads promises what does not happen."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import wan_mcp
from wan_mcp.catalog.manifest import Manifest

SOURCES = Path(wan_mcp.__file__).parent
FOR_PEOPLE = {
    ("Manifest", "schema_version"),  # the schema itself checks it
}
"""Keys that are for whoever opens the file, or asks for it as JSON."""


def parts(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation is made of, with those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from parts(field.annotation)
    else:
        for inner in get_args(annotation):
            yield from parts(inner)


class Reads(ast.NodeVisitor):
    """Collects the attributes that code reads, each with the class whose `self` it is read from, if it is one.

    What a validator reads does not count: to check a value is not to use it.
    """

    def __init__(self) -> None:
        self.found: set[tuple[str, str | None]] = set()
        self._class: str | None = None

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, node.name
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if not any("validator" in ast.unparse(decorator) for decorator in node.decorator_list):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            self.found.add((node.attr, self._class if of_self else None))
        self.generic_visit(node)


@cache
def reads() -> set[tuple[str, str | None]]:
    """The reads of the whole package."""
    visitor = Reads()
    for file in SOURCES.rglob("*.py"):
        visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
    return visitor.found


def unread(model: type[BaseModel]) -> set[tuple[str, str]]:
    """The keys of a model and its parts that no code reads, each with its model.

    It goes by names: a key that has the name of something else that is read is taken to be read.
    """
    return {
        (part.__name__, key)
        for part in set(parts(model))
        for key in part.model_fields
        if not {(key, None), (key, part.__name__)} & reads()
    }


def test_every_key_of_a_manifest_is_read_by_something() -> None:
    assert unread(Manifest) == FOR_PEOPLE


@pytest.mark.parametrize("key", ["sigma_max", "sigma_min", "block_class"])
def test_a_key_that_nothing_reads_is_found(key: str) -> None:
    more = type("More", (BaseModel,), {"__annotations__": {key: float, "manifest": Manifest}})
    assert unread(more) == {("More", key), *FOR_PEOPLE}
