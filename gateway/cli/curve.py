"""``titanic curve``: keys for encrypted connections between known peers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.console import Json, Verbose, facts, start_logging

if TYPE_CHECKING:
    from core.shell.curve import ClientKeys
    from gateway.composition.settings import Settings

CurveDir = Annotated[
    Path | None,
    typer.Option(
        "--curve-dir", help="Folder with CURVE keys; without it nothing is encrypted.", metavar="DIR"
    ),
]

app = typer.Typer(
    help="Keys for encrypted connections between known peers.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def group() -> None:
    """Keys for encrypted connections between known peers (CurveZMQ)."""


@app.command(epilog="Example: titanic curve keygen server --curve-dir ./keys")
def keygen(
    name: Annotated[
        str, typer.Argument(help="Whose keys: server, client, or any other name.", metavar="[NAME]")
    ] = "client",
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Make a pair of keys: NAME.key, secret and for its owner only, and NAME.pub.

    The broker's pair is called server. Its folder also has allow.toml, with the public keys that may
    connect; the folder of a client or worker has client.key, client.pub and the broker's server.pub.
    """
    from core.shell.curve import keygen as make
    from gateway.composition import settings as config

    start_logging(verbose)
    folder = config.load({"curve_dir": curve_dir}).curve_dir or Path("titanic-keys")
    public, secret = make(folder, name)
    text = public.read_text().strip()
    facts({"name": name, "public": text, "public_file": str(public), "secret_file": str(secret)}, as_json)


def client_keys(settings: Settings) -> ClientKeys | None:
    """The keys to connect with, or None if no folder is set. CurveError if they cannot be used."""
    from core.shell.curve import load_client

    return load_client(settings.curve_dir) if settings.curve_dir is not None else None
