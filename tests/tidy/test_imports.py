"""Imports go down only, and pure files touch no IO: proven from the imports of every file."""

import ast
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support import sources
from tests.support.sources import PACKAGES, within


class Room(NamedTuple):
    """Files below ``prefix`` may import, of this project, what is below ``allowed`` and nothing else."""

    prefix: str
    allowed: tuple[str, ...]


CLIENT_SIDE: Final = (
    *("core.errors", "core.pure", "core.shell.client", "core.shell.dealer", "core.shell.trace_context"),
)

# The longest prefix that fits a module counts.
ROOMS: Final = (
    Room("core.errors", ()),
    Room("core.pure", ("core.pure", "core.errors")),
    Room("core", ("core",)),
    Room("titanic_store.errors", ()),
    Room("titanic_store.pure", ("titanic_store.pure", "titanic_store.errors")),
    Room("titanic_store", ("titanic_store",)),
    Room("gateway.pure", ("gateway.pure", "gateway.errors", "core.pure", "core.errors")),
    Room("gateway.http", ("gateway.http", "gateway.pure", "gateway.errors", *CLIENT_SIDE)),
    Room("gateway.errors", ("gateway.pure",)),
    Room("gateway.client", ("gateway.client",)),
    Room("gateway.composition", ("gateway", "core", "titanic_store")),
    Room("gateway.cli", ("gateway", "core", "titanic_store")),
    Room("gateway", ("gateway.cli",)),
)
UPWARDS: Final = (("gateway.composition", "gateway.cli"), ("gateway.http", "gateway.composition"))

IO_MODULES: Final = (
    *("socket", "ssl", "select", "selectors", "os", "sys", "io", "time", "threading", "multiprocessing"),
    *("concurrent", "asyncio", "signal", "subprocess", "random", "secrets", "uuid", "pathlib", "tempfile"),
    *("shutil", "glob", "logging", "sqlite3", "ctypes", "fcntl", "mmap", "platform", "contextvars"),
    *("http.client", "http.server", "urllib.request", "zmq", "uvloop", "anyio", "httpx", "fastapi"),
    *("starlette", "uvicorn", "typer", "rich", "pydantic_settings", "prometheus_client"),
)
CALENDAR: Final = ("gmtime", "strftime")  # of time: arithmetic on a number, which a pure file may do
IO_CALLS: Final = ("open", "print", "input", "__import__", ".now", ".utcnow", ".today", ".urandom")
NEVER: Final = ("pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle")
NEVER_CALLED: Final = ("eval", "exec")

FILES: Final = sources.files(*PACKAGES)
PURE: Final = [path for path in FILES if "pure" in path.parts]


def room_of(module: str) -> Room:
    """The narrowest room the module is in."""
    fitting = [room for room in ROOMS if within(module, room.prefix)]
    return max(fitting, key=lambda room: len(room.prefix))


def ours(name: str) -> bool:
    """Whether the dotted name is one of this project."""
    return within(name, *PACKAGES, "tests", "bench", "examples")


def only_calendar(path: Path) -> bool:
    """Whether all that a file takes from ``time`` is calendar arithmetic on an argument."""
    uses = [
        node.func.attr in CALENDAR and bool(node.args)
        for node in ast.walk(sources.tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "time"
    ]
    mentions = [
        node
        for node in ast.walk(sources.tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    ]
    return all(uses) and len(uses) == len(mentions)


@pytest.mark.parametrize("path", FILES, ids=sources.label)
def test_imports_go_down(path: Path) -> None:
    """A file imports only from its own room and the rooms below it."""
    module = sources.module_name(path)
    room = room_of(module)
    wrong = [
        f"{sources.label(path)}:{line} imports {name}"
        for line, name in sources.imports(path)
        if ours(name) and not within(name, *room.allowed)
    ]
    wrong += [
        f"{sources.label(path)}:{line} imports {name}, which is above it"
        for low, high in UPWARDS
        for line, name in sources.imports(path)
        if within(module, low) and within(name, high)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", PURE, ids=sources.label)
def test_pure_is_pure(path: Path) -> None:
    """A pure file imports nothing that reads or writes the world, and calls nothing that does."""
    wrong = [
        f"{sources.label(path)}:{line} imports {name}"
        for line, name in sources.imports(path)
        if within(name, *IO_MODULES) and not (name == "time" and only_calendar(path))
    ]
    wrong += [
        f"{sources.label(path)}:{line} calls {name}()"
        for line, name in sources.calls(sources.tree(path))
        if name in IO_CALLS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", FILES, ids=sources.label)
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    """Bytes from outside never become code (promise S1)."""
    wrong = [f"line {line}: {name}" for line, name in sources.imports(path) if within(name, *NEVER)]
    wrong += [
        f"line {line}: {name}()" for line, name in sources.calls(sources.tree(path)) if name in NEVER_CALLED
    ]
    assert not wrong, f"{sources.label(path)}: {wrong}"


def test_the_rules_see_what_they_forbid() -> None:
    """Relative, nested and aliased imports are all found: the rules cannot be walked around by accident."""
    source = ast.parse(
        "from . import a\nfrom ..shell import b as c\nimport os.path as p\n"
        "def f():\n    from titanic_store.shell.ring import Ring\n"
    )
    found = {name for _, name in sources.imports(sources.ROOT / "core" / "pure" / "x.py", source)}
    assert found == {"core.pure.a", "core.shell.b", "os.path", "titanic_store.shell.ring.Ring"}
    assert within("os.path", *IO_MODULES)
    assert room_of("gateway.http.app").prefix == "gateway.http"
    assert room_of("core.pure.mdp").prefix == "core.pure"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_is_a_package(package: str) -> None:
    """Each folder with code has an ``__init__.py`` that says what is in it."""
    folders = {path.parent for path in sources.files(package)}
    silent = [
        sources.label(folder)
        for folder in folders
        if not (folder / "__init__.py").is_file()
        or not ast.get_docstring(sources.tree(folder / "__init__.py"))
    ]
    assert not silent, silent
