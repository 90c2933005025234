"""The Grafana dashboard shows metrics that exist."""

import json
import re

from tests.gateway.conftest import LiveGateway
from tests.support.sources import ROOT

DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "titanic.json").read_text())


def test_every_panel_asks_for_a_metric_that_there_is(live: LiveGateway) -> None:
    """Each name in each query is one that a scrape of gateway and node has."""
    live.submit()
    exposed = set(re.findall(r"^(titanic_\w+)", live.client.get("/metrics").text, re.MULTILINE))
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"titanic_\w+", target["expr"])
    }
    assert len(asked) > 10
    assert asked <= exposed, asked - exposed


def test_panels_are_apart() -> None:
    """No two panels have one id or one place."""
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
