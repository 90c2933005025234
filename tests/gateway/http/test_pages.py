"""The documentation pages work without internet, and the OpenAPI document is what is checked in."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from gateway.http import openapi
from gateway.http.app import create_app
from gateway.http.pages import ASSETS, asset
from gateway.http.schemas import SCHEMAS
from gateway.http.settings import GatewaySettings
from gateway.pure import problems
from tests.gateway.conftest import LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.sources import ROOT

PAGES = ("/docs", "/redoc", "/problems")
DOCUMENT = openapi.openapi_document()
OPERATIONS = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}


@pytest.mark.parametrize("path", PAGES)
def test_pages_load_nothing_from_elsewhere(live: LiveGateway, path: str) -> None:
    """Every URL of a page is served here, and the policy forbids anything else and inline script."""
    answer = live.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "//" not in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", answer.text), "inline script or style"
    urls = re.findall(r'(?:src|href)="([^"#]+)', answer.text)
    assert urls
    for url in urls:
        assert re.match(r"/(?!/)", url), f"{url} is elsewhere"
        assert live.client.get(url).status_code == 200, url


@pytest.mark.parametrize("name", ASSETS)
def test_assets(live: LiveGateway, name: str) -> None:
    """Each asset has its type and an ETag that works."""
    answer = live.client.get(f"/assets/{name}")
    assert answer.status_code == 200
    assert answer.content == asset(name).body
    assert answer.headers["content-type"] == ASSETS[name][1]
    again = live.client.get(f"/assets/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ASSETS)
def test_assets_fetch_nothing_from_elsewhere(name: str) -> None:
    """No image, style or font of an asset comes from another host."""
    text = asset(name).body.decode("utf-8")
    fetched = re.findall(r"""(?:src\s*[:=]|url\(|@import)\s*["']?(https?:[^"')\s]+)""", text)
    assert not fetched


def test_problem_types_resolve(live: LiveGateway) -> None:
    """Each problem's type leads to a heading on the server that sent it."""
    page = live.client.get("/problems").text
    assert all(f'<section id="{kind.slug}">' in page for kind in problems.KINDS)


# -- the document


def test_checked_in_document_is_current() -> None:
    """openapi/openapi.json is what the code generates."""
    paths = [str(ROOT / "openapi" / "openapi.json"), str(ROOT / "docs" / "reference" / "http-problems.md")]
    assert openapi.main(["--check", *paths]) == 0


def test_drift_is_seen(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """--check exits with 1 for a file that differs or is not there; without it the file is written."""
    path = tmp_path / "openapi.json"
    assert openapi.main(["--check", str(path)]) == 1
    assert openapi.main([str(path)]) == 0
    assert openapi.main(["--check", str(path)]) == 0
    path.write_text(path.read_text() + " ")
    assert openapi.main(["--check", str(path)]) == 1
    assert "is not up to date" in capsys.readouterr().err


def test_served_document_is_the_checked_in_one(live: LiveGateway) -> None:
    """What /openapi.json serves depends on no setting."""
    checked_in = json.loads((ROOT / "openapi" / "openapi.json").read_text("utf-8"))
    assert live.client.get("/openapi.json").json() == checked_in


def test_operations_and_their_names() -> None:
    """The operation ids are those of the contract, each with tags, summary and description."""
    expected = {
        *("titanic.request", "titanic.reply", "titanic.close", "job.get", "job.list", "job.batch"),
        *("job.cancel", "job.retry", "service.list", "service.get", "service.pause", "service.resume"),
        *("events", "node.list", "store.get", "store.backup", "livez", "readyz", "metrics"),
    }
    assert set(OPERATIONS) == expected
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for operation in OPERATIONS.values():
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags


def references(value: Any) -> list[str]:
    """All ``$ref`` in a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for item in value.values() for ref in references(item)]
    return [ref for item in value for ref in references(item)] if isinstance(value, list) else []


def test_references_resolve() -> None:
    """Every $ref points at something; every schema is used."""
    found = set(references(DOCUMENT))
    for reference in found:
        at: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
    assert {f"#/components/schemas/{name}" for name in SCHEMAS} <= found


def test_errors_are_problems_with_examples() -> None:
    """Every documented error is a problem document with an example of its status."""
    for name, operation in OPERATIONS.items():
        for status, answer in operation["responses"].items():
            if status < "400":
                continue
            examples = answer["content"]["application/problem+json"]["examples"]
            assert examples, (name, status)
            assert all(str(example["value"]["status"]) == status for example in examples.values())


def test_links_lead_from_submit_to_close() -> None:
    """Links name operations that exist and pass the id on."""
    links = OPERATIONS["titanic.request"]["responses"]["202"]["links"]
    assert {link["operationId"] for link in links.values()} == {"job.get", "titanic.reply", "titanic.close"}
    for operation in OPERATIONS.values():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                assert link["operationId"] in OPERATIONS
                assert all(value.startswith("$") for value in link["parameters"].values())


def test_examples_have_the_required_members() -> None:
    """Each example of a component has exactly the members of its schema."""
    for name, example in DOCUMENT["components"]["examples"].items():
        assert set(example["value"]) == set(SCHEMAS[name]["required"]), name


def test_the_framework_alone_serves_the_hot_routes() -> None:
    """Behind the prefix check the same routes exist and give the same answers."""
    node = FakeNode()
    gateway = create_app(GatewaySettings(), node)
    gateway.node.link = node

    async def exchange() -> list[httpx.Response]:
        transport = httpx.ASGITransport(gateway.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            made = await client.post("/v1/services/echo/jobs", content=b"x")
            path = made.headers["location"]
            answers = [made, await client.get(f"{path}/reply"), await client.delete(path)]
            answers += [await client.post("/v1/services/mmi.x/jobs"), await client.get(f"{path}/reply")]
        await gateway.node.stop()
        return answers

    assert [answer.status_code for answer in asyncio.run(exchange())] == [202, 202, 204, 400, 410]
