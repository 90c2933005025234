"""The source files of the project as syntax trees, for the rules in ``tests/tidy``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("core", "titanic_store", "gateway")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders: str) -> list[Path]:
    """Every Python file below these folders, sorted."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found, f"no sources below {folders}"
    return sorted(found)


@cache
def tree(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))


def module_name(path: Path) -> str:
    """``core.pure.jobs`` for the file of that module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def label(path: Path) -> str:
    """The path from the root of the project, for test ids and messages."""
    return str(path.relative_to(ROOT))


def imports(path: Path, source: ast.Module | None = None) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything the file imports, wherever in the file it does.

    ``from a import b`` yields ``a.b`` only: whether b is a module or a name in it, ``a`` is its prefix.
    """
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(source or tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)


def calls(body: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every call: ``open`` for ``open()``, ``.now`` for ``x.now()``."""
    for node in ast.walk(body):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.lineno, node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.lineno, f".{node.func.attr}"


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of the file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            yield node


def within(name: str, *prefixes: str) -> bool:
    """Whether the dotted ``name`` is one of ``prefixes`` or below one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
