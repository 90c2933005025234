"""What the documents say exists: commands, flags, targets, files, links and pinned versions."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from gateway.cli.app import app
from tests.support.sources import ROOT, label

MUST_EXIST: Final = (
    *(
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        ".ci/run",
        "openapi/openapi.json",
    ),
    *("docs/internals/tsp.md", "docs/internals/mdp.md", "docs/internals/data-file.md", "docs/guides/seed.md"),
    *("docs/guides/workers.md", "docs/reference/cli.md", "openapi/curl/durable-job.sh"),
)
DOCUMENTS: Final = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    if "node_modules" not in path.parts
)
SCRIPTS: Final = sorted((ROOT / "openapi" / "curl").glob("*.sh"))
COMMAND: Any = typer.main.get_command(app)
FENCE: Final = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET: Final = re.compile(r"^([a-z]+):", re.MULTILINE)


def shell_lines(path: Path) -> list[str]:
    """The commands in a document's shell blocks, or all of a script, one per line."""
    text = path.read_text()
    blocks = [text] if path.suffix == ".sh" else FENCE.findall(text)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if not line.lstrip().startswith("#")]


def words_after(command: str, line: str) -> list[list[str]]:
    """The words that follow each use of ``command`` in a line, up to the next operator of the shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:  # a quotation that goes on in the next line: not one of our commands
        return []
    found = []
    for at, word in enumerate(words):
        if word == command and (at == 0 or not words[at - 1].startswith("-")):
            rest = words[at + 1 :]
            end = next((i for i, part in enumerate(rest) if set(part) <= set("|&;()<>")), len(rest))
            found.append(rest[:end])
    return found


def explain_wrong_use(words: list[str]) -> str | None:
    """Why ``titanic WORDS`` is no command of ours, or None: names and flags, not values."""
    command = COMMAND
    for word in words:
        if word.startswith("-"):
            flags = {
                flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
            }
            if word.partition("=")[0] not in flags | {"--help", "-h"}:
                return f"'{command.name}' has no flag {word}"
        elif hasattr(command, "commands") and command.commands:
            if word not in command.commands and not _is_value(command, words, word):
                return f"'{command.name}' has no command {word}"
            command = command.commands.get(word, command)
    return None


def _is_value(command: Any, words: list[str], word: str) -> bool:
    before = words[words.index(word) - 1] if words.index(word) else ""
    return any(
        before in parameter.opts and not getattr(parameter, "is_flag", False) for parameter in command.params
    )


@pytest.mark.parametrize("name", MUST_EXIST)
def test_must_exist(name: str) -> None:
    """A reader finds every document that the others count on, and there is something in it."""
    assert (ROOT / name).is_file(), f"{name} is missing"
    assert (ROOT / name).read_text().strip(), f"{name} is empty"


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=label)
def test_commands_exist(path: Path) -> None:
    """Every ``titanic`` and ``make`` in a shell block is a command, with flags that it has."""
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    wrong = []
    for line in shell_lines(path):
        wrong += [
            f"{line}: {why}" for words in words_after("titanic", line) if (why := explain_wrong_use(words))
        ]
        for words in words_after("make", line):
            wrong += [
                f"{line}: no target {word}" for word in words if "=" not in word and word not in targets
            ]
    assert not wrong, "\n".join(wrong)


def test_wrong_commands_are_seen() -> None:
    """The rule above finds a command, a flag or a target that does not exist."""
    assert explain_wrong_use(["serve", "--data", "x"]) is None
    assert explain_wrong_use(["client", "--broker", "tcp://x:1", "call", "echo"]) is None
    assert explain_wrong_use(["sail"]) is not None
    assert explain_wrong_use(["serve", "--iceberg"]) is not None
    assert words_after("titanic", "x=$(titanic submit a) && titanic close b | cat") == [
        ["submit", "a"],
        ["close", "b"],
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=label)
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file of this project names a file that is there."""
    links = [link.partition("#")[0] for link in LINK.findall(path.read_text()) if "://" not in link]
    dead = [link for link in links if link and not (path.parent / link).exists()]
    assert not dead, f"{label(path)}: {dead}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=label)
def test_tests_that_are_named_exist(path: Path) -> None:
    """Where a document says that a test tries something, there is that test."""
    gone = [
        f"{file}::{name}"
        for file, name in TEST.findall(path.read_text())
        if not (ROOT / file).is_file() or (name and f"def {name}(" not in (ROOT / file).read_text())
    ]
    assert not gone, f"{label(path)} names {gone}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=label)
def test_documents_stand_alone(path: Path) -> None:
    """No document sends its reader to a place outside of this repository's tree."""
    assert "../shared" not in path.read_text()
    outside = [link for link in LINK.findall(path.read_text()) if link.startswith("/")]
    assert not outside, outside


def walk(command: Any, path: str) -> list[tuple[str, Any]]:
    """(path, command) of every command below, groups left out."""
    if not getattr(command, "commands", None):
        return [(path, command)]
    return [found for name, below in command.commands.items() for found in walk(below, f"{path} {name}")]


@pytest.mark.parametrize(("path", "command"), walk(COMMAND, "titanic"), ids=lambda value: str(value))
def test_every_command_explains_itself(path: str, command: Any) -> None:
    """Each command has a help text, an example that is a real use of it, and ``-v``."""
    assert command.help, f"{path} has no help"
    assert command.epilog, f"{path} has no example"
    assert command.epilog.startswith("Example: "), command.epilog
    uses = words_after("titanic", command.epilog.removeprefix("Example: "))
    assert uses, command.epilog
    assert explain_wrong_use(uses[0]) is None, explain_wrong_use(uses[0])
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {"-v", "--verbose"} <= flags, f"{path} has no -v"


def test_every_dependency_is_pinned() -> None:
    """What ``pyproject.toml`` allows as a range, ``requirements.txt`` pins to the version that is tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {_normal(re.split(r"[<>=!~;\[ ]", requirement)[0]) for requirement in wanted}
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert not [line for line in lines if "==" not in line], "every requirement is pinned"
    assert not names - {_normal(line.partition("==")[0]) for line in lines}, "in pyproject.toml only"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
