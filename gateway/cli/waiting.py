"""``--wait [DURATION]``: an option that may stand alone."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from gateway.cli.errors import CliError, ExitCode
from gateway.pure import units

FOREVER: Final = "for ever"

Wait = Annotated[
    str | None,
    typer.Option(help="Wait for the reply: for ever, or as long as said.", metavar="[DURATION]"),
]


class WaitCommand(typer.core.TyperCommand):
    """A command whose ``--wait`` may stand without a value: what follows counts only if it is a duration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click: the arguments, with a lonely ``--wait`` completed."""
        end = args.index("--") if "--" in args else len(args)
        completed = [
            f"--wait={FOREVER}" if word == "--wait" and not _is_duration(args[at + 1 : end][:1]) else word
            for at, word in enumerate(args[:end])
        ]
        return super().parse_args(ctx, completed + args[end:])


def wait_ms(wait: str | None) -> int | None:
    """0 for no waiting, None for ever. Raises CliError."""
    if wait is None:
        return 0
    if wait == FOREVER:
        return None
    try:
        return units.parse_duration_ms(wait)
    except units.UnitError as error:
        raise CliError(f"--wait: {error}", ExitCode.WRONG_USE) from None


def _is_duration(words: list[str]) -> bool:
    try:
        return bool(words) and units.parse_duration_ms(words[0]) >= 0
    except units.UnitError:
        return False
