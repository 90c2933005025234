"""What a person may paste once a server is there."""

from __future__ import annotations

from typing import Any

from gateway.cli.console import fact


def curl_lines(url: str) -> list[str]:
    """Submit, reply and close: three commands that work when pasted one after the other."""
    location = "awk 'tolower($1) == \"location:\" {print $2}' | tr -d '\\r'"
    return [
        f"job=$(curl -si --data 'hello, titanic' {url}/v1/services/echo/jobs | {location})",
        f'curl -s -H "Prefer: wait=10" {url}$job/reply; echo',
        f"curl -s -o /dev/null -w '%{{http_code}}\\n' -X DELETE {url}$job",
    ]


def show_pair(values: dict[str, Any]) -> None:
    """Where everything of ``serve --pair`` is, and lines to try it with."""
    fact("titanic is ready as a pair on this machine; Ctrl-C stops it all")
    fact(f"  http     {values['http']}  (docs: {values['http']}/docs, both nodes: {values['http']}/v1/nodes)")
    roles = ("primary", "backup")
    for role in roles:
        side = values[role]
        what = "active" if side["active"] else "passive"
        wire = "encrypted" if side["encrypted"] else "plain"
        fact(
            f"  {role:8} {side['broker']}  {what}, pid {side['pid']}, data {side['data']},"
            f" link {side['link']} ({wire})"
        )
    nodes = ",".join(values[role]["broker"] for role in roles)
    active = next((role for role in roles if values[role]["active"]), roles[0])
    fact("\nTry, line by line, in another terminal:\n")
    fact(f"  titanic worker echo --nodes {nodes} &")
    for line in curl_lines(values["http"]):
        fact(f"  {line}")
    fact(f"  kill -9 {values[active]['pid']}   # the active node: the other one takes over, no job is lost")
    fact(f"  titanic pair status --nodes {nodes}")
    fact(f"  titanic pair handover --nodes {nodes}\n")
