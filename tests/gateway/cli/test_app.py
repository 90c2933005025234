"""The command line without processes: errors, exit codes, ``--wait`` without a value."""

import json

import pytest
import typer
import zmq

from core.errors import ServerUnreachableError
from gateway.cli.app import app, main
from gateway.cli.errors import CliError, ExitCode, explain
from gateway.cli.waiting import FOREVER, wait_ms
from titanic_store import DamagedStoreError, StoreInUseError, UnknownVersionError

ID = "0" * 32


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CliError("x", ExitCode.NOT_YET), 8),
        (DamagedStoreError(1, "x"), 3),
        (StoreInUseError("x"), 4),
        (UnknownVersionError("x"), 5),
        (ServerUnreachableError("x"), 6),
        (FileNotFoundError(2, "No such file", "x"), 1),
        (zmq.ZMQError(98), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code(error: BaseException, code: int) -> None:
    """Every error a user can cause has its documented exit code and one line."""
    known = explain(error)
    assert known is not None
    assert known[1] == code
    assert known[0]
    assert "\n" not in known[0]


def test_our_own_mistakes_are_no_users_errors() -> None:
    """What is not foreseen is shown as the bug it is."""
    assert explain(KeyError("x")) is None


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ([ID], None),
        ([ID, "--wait"], FOREVER),
        (["--wait", ID], FOREVER),
        (["--wait", "30s", ID], "30s"),
        ([ID, "--wait=1h"], "1h"),
        ([ID, "--wait", "--json"], FOREVER),
    ],
)
def test_wait_may_stand_alone(words: list[str], wait: str | None) -> None:
    """``--wait`` takes the next word only if that is a duration."""
    command = typer.main.get_command(app).commands["reply"]  # type: ignore[attr-defined]
    context = command.make_context("reply", list(words))
    assert context.params["wait"] == wait
    assert context.params["id_"] == ID


def test_wait_in_milliseconds() -> None:
    """No flag: do not wait. Alone: for ever."""
    assert (wait_ms(None), wait_ms(FOREVER), wait_ms("1.5s")) == (0, None, 1500)
    with pytest.raises(CliError):
        wait_ms("soon")


def test_config_show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is shown with its value and its source."""
    monkeypatch.setenv("TITANIC_MAX_BODY", "1MiB")
    assert main(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["max_body"] == {"value": "1MiB", "source": "environment TITANIC_MAX_BODY"}
    assert main(["config", "show"]) == 0
    assert "environment TITANIC_MAX_BODY" in capsys.readouterr().out


def test_nothing_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """``titanic`` alone explains itself and is wrong use."""
    assert main([]) == 2
    assert "serve" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("titanic 0.")
