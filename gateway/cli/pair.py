"""``titanic pair``: what an operator asks of the two nodes of a pair, and tells them."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final

import typer

from core.pure.pair import State
from gateway.cli.console import Json, Verbose, fact, table, tracer
from gateway.cli.errors import ExitCode
from gateway.composition import settings as config
from gateway.composition.pair_ask import ask

COLUMNS: Final = (
    "node", "role", "state", "serves", "in_sync", "epoch", "sequence", "lag", "heard_peer", "since",
)  # fmt: skip
app = typer.Typer(help="Look at a pair of nodes, switch it, promote a node.", no_args_is_help=True)
Nodes = Annotated[
    str | None,
    typer.Option(help="Where the nodes are [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
]
CURVE = Annotated[
    str | None, typer.Option("--curve-dir", help="Folder with the client's keys.", metavar="DIR")
]


def _settings(nodes: str | None, curve_dir: str | None) -> config.Settings:
    return config.load({"nodes": nodes, "curve_dir": curve_dir})


def _finish(answers: dict[str, Any], as_json: bool, good: bool) -> None:
    if as_json:
        fact(json.dumps(answers))
    else:
        table([_row(endpoint, answer) for endpoint, answer in _sides(answers).items()], COLUMNS)
        for line in _words(answers):
            fact(line)
    reached = any("error" not in answer for answer in answers.values())
    raise typer.Exit(ExitCode.DONE if good else ExitCode.FAILED if reached else ExitCode.UNREACHABLE)


def _sides(answers: dict[str, Any]) -> dict[str, Any]:
    """The nodes asked, and one that only its peer knows."""
    known = [answer for answer in answers.values() if "error" not in answer]
    if len(answers) == len(known) == 1:
        where = known[0]["peer_broker"] or f"the peer at {known[0]['peer']}"
        return {**answers, where: {"error": "not asked: name both nodes in --nodes"}}
    return answers


def _row(endpoint: str, answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        return {"node": endpoint, "state": answer.get("state", "no answer"), "since": answer["error"]}
    changes = answer["changes"]
    return {
        "node": endpoint,
        "role": answer["role"],
        "state": answer["state"],
        "serves": "yes" if answer["active"] else "no",
        "in_sync": "yes" if answer["in_sync"] else "no",
        "epoch": answer["epoch"],
        "sequence": answer["last_seq"],
        "lag": answer["lag"] if answer["lag"] >= 0 else "-",
        "heard_peer": f"{answer['peer_heard_ms']} ms ago" if answer["peer_heard_ms"] >= 0 else "never",
        "since": f"{_clock(changes[-1]['at_ms'])} ({answer['why']})" if changes else answer["why"],
    }


def _clock(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def _words(answers: dict[str, Any]) -> list[str]:
    """What an operator should not have to conclude from the table."""
    found = [answer for answer in answers.values() if "error" not in answer]
    lines = []
    if any(answer["state"] == State.HANDING.value for answer in found):
        lines.append("the planned switch has begun; ask 'titanic pair status' in a moment")
    elif not any(answer["active"] for answer in found) and found:
        lines.append("no node that answered serves")
    elif whole := [answer for answer in found if answer["state"] == "paired"]:
        lines.append(_worth(whole[0]))
    elif found:
        lines.append("the pair is NOT whole: acknowledged jobs are on one disk only, or wait")
    merged = [answer for answer in found if answer["merged"]]
    return lines + [f"{answer['role']} merged after a split: {answer['merged']}" for answer in merged]


def _worth(active: dict[str, Any]) -> str:
    """What an answer of a whole pair is worth."""
    if active["replication"] == "sync":
        return "the pair is whole: every acknowledged job is on both disks"
    return (
        "the pair is whole, and answers after one disk (--replication local):"
        f" the other lags by {active['lag']} records"
    )


@app.command(epilog="Example: titanic pair status --nodes tcp://127.0.0.1:5555,tcp://127.0.0.1:5556")
def status(nodes: Nodes = None, curve_dir: CURVE = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Show both nodes: role, state, epoch, sequence, and what they know of each other."""
    settings = _settings(nodes, curve_dir)
    answers = ask(settings.node_endpoints, settings.curve_dir, "status", trace=tracer(verbose))
    _finish(answers, as_json, all("error" not in answer for answer in answers.values()))


@app.command(epilog="Example: titanic pair handover --nodes tcp://127.0.0.1:5555,tcp://127.0.0.1:5556")
def handover(
    nodes: Nodes = None, curve_dir: CURVE = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Switch roles in order: the active drains and steps down, no request is lost or fails (P9)."""
    settings = _settings(nodes, curve_dir)
    answers = ask(settings.node_endpoints, settings.curve_dir, "handover", trace=tracer(verbose))
    _finish(answers, as_json, any(answer.get("done") for answer in answers.values()))


@app.command(epilog="Example: titanic pair promote --nodes tcp://127.0.0.1:5556 --force")
def promote(
    nodes: Nodes = None,
    force: Annotated[bool, typer.Option("--force", help="The other node does not serve: I looked.")] = False,
    curve_dir: CURVE = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Make the one node given active by the operator's word, although nothing proves that it may be (P5)."""
    settings = _settings(nodes, curve_dir)
    if not force or len(settings.node_endpoints) != 1:
        raise typer.BadParameter("promote needs --force and the one node in --nodes that is to serve")
    answers = ask(settings.node_endpoints, settings.curve_dir, "promote", force=True, trace=tracer(verbose))
    _finish(answers, as_json, any(answer.get("done") for answer in answers.values()))
