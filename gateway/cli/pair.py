"""``titanic pair``: what an operator asks of the two nodes of a pair, and tells them."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import msgspec
import typer

from gateway.cli.console import Json, Verbose, tracer
from gateway.cli.errors import ExitCode
from gateway.composition import settings as config

app = typer.Typer(help="Look at a pair of nodes, switch it, promote a node.", no_args_is_help=True)
Nodes = Annotated[
    str | None,
    typer.Option(help="Where the nodes are [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
]
CURVE = Annotated[
    str | None, typer.Option("--curve-dir", help="Folder with the client's keys.", metavar="DIR")
]
TIMEOUT_S = 3.0


def ask(
    nodes: tuple[str, ...], curve_dir: Any, action: str, *, force: bool = False, verbose: int = 0
) -> dict[str, Any]:
    """Endpoint -> (status, PairStatus as plain values), or why there is none."""
    from core.errors import ServerUnreachableError
    from core.pure.pair_heads import PAIR, PairCommand, decode_pair_status
    from core.pure.tsp import encode_head
    from core.shell.curve import load_client
    from core.shell.dealer import NodeDealer

    keys = load_client(curve_dir) if curve_dir is not None else None

    async def one(endpoint: str) -> dict[str, Any]:
        dealer = NodeDealer((endpoint,), keys=keys, trace=tracer(verbose))
        dealer.start()
        try:
            head = encode_head(PairCommand(action, force))
            answer = await dealer.call(PAIR, (head,), TIMEOUT_S)
        except ServerUnreachableError as error:
            return {"error": str(error)}
        finally:
            dealer.close()
        if answer[0] not in (b"200", b"409"):
            return {"error": "this node is not one of a pair"}
        status = decode_pair_status(answer[1])
        changes = [msgspec.structs.asdict(change) for change in status.changes]
        return {"done": answer[0] == b"200", **msgspec.structs.asdict(status), "changes": changes}

    async def all_() -> dict[str, Any]:
        answers = await asyncio.gather(*map(one, nodes))
        return dict(zip(nodes, answers, strict=True))

    return asyncio.run(all_())


def _settings(nodes: str | None, curve_dir: str | None) -> config.Settings:
    return config.load({"nodes": nodes, "curve_dir": curve_dir})


def _finish(answers: dict[str, Any], as_json: bool, good: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answers))
    else:
        for endpoint, answer in answers.items():
            typer.echo(_line(endpoint, answer))
    reached = any("error" not in answer for answer in answers.values())
    raise typer.Exit(ExitCode.DONE if good else ExitCode.FAILED if reached else ExitCode.UNREACHABLE)


def _line(endpoint: str, answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"{endpoint}  {answer['error']}"
    lag = "no follower" if answer["lag"] < 0 else f"lag {answer['lag']}"
    heard = "never heard" if answer["peer_heard_ms"] < 0 else f"heard {answer['peer_heard_ms']} ms ago"
    return (
        f"{endpoint}  {answer['role']}  {answer['state']}  epoch {answer['epoch']}"
        f"  sequence {answer['last_seq']}  {lag}  ({answer['why']}); peer {answer['peer']}"
        f" {answer['peer_state'] or 'unknown'}, {heard}"
    )


@app.command(epilog="Example: titanic pair status --nodes tcp://127.0.0.1:5555,tcp://127.0.0.1:5565")
def status(nodes: Nodes = None, curve_dir: CURVE = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Show both nodes: role, state, epoch, sequence, and what they know of each other."""
    settings = _settings(nodes, curve_dir)
    answers = ask(settings.node_endpoints, settings.curve_dir, "status", verbose=verbose)
    _finish(answers, as_json, all("error" not in answer for answer in answers.values()))


@app.command(epilog="Example: titanic pair handover --nodes tcp://127.0.0.1:5555,tcp://127.0.0.1:5565")
def handover(
    nodes: Nodes = None, curve_dir: CURVE = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Switch roles in order: the active drains and steps down, no request is lost or fails (P9)."""
    settings = _settings(nodes, curve_dir)
    answers = ask(settings.node_endpoints, settings.curve_dir, "handover", verbose=verbose)
    _finish(answers, as_json, any(answer.get("done") for answer in answers.values()))


@app.command(epilog="Example: titanic pair promote --nodes tcp://127.0.0.1:5565 --force")
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
    answers = ask(settings.node_endpoints, settings.curve_dir, "promote", force=True, verbose=verbose)
    _finish(answers, as_json, any(answer.get("done") for answer in answers.values()))
