"""What is compiled: files that exist, and none that defines a msgspec struct (decision 0006)."""

import ast
import tomllib
from typing import Final

import pytest

from tests.support.sources import ROOT, files, tree

NATIVE: Final[list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["titanic"]["native"]


@pytest.mark.parametrize("name", NATIVE)
def test_no_structs_are_compiled(name: str) -> None:
    """Mypyc would make a class of its own of it, and all that msgspec does would be gone."""
    for node in ast.walk(tree(ROOT / name)):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            assert "Struct" not in bases, f"{name}: {node.name}"


def test_what_derives_from_a_compiled_class_is_compiled() -> None:
    """It would be refused otherwise, but only when somebody makes one. Protocols do not count."""
    compiled = {
        (name.removesuffix(".py").replace("/", "."), node.name)
        for name in NATIVE
        for node in tree(ROOT / name).body
        if isinstance(node, ast.ClassDef) and "Protocol" not in map(ast.unparse, node.bases)
    }
    for path in files("core", "titanic_store", "gateway"):
        name = str(path.relative_to(ROOT))
        if name in NATIVE:
            continue
        imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
                assert not compiled & {imported.get(base, ("", "")) for base in bases}, f"{name}: {node.name}"


def test_no_file_twice() -> None:
    """The list is read by people."""
    assert len(NATIVE) == len(set(NATIVE))
