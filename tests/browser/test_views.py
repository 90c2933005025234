"""The dashboard shows what the server knows, follows it, and acts on it: real server, real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from gateway.http import dashboard
from tests.browser.conftest import Site, Visit, check_shown
from tests.support.processes import until

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Locator, Page


def text_of(page: Page, selector: str) -> str:
    """The visible text of the first match."""
    return page.locator(selector).first.inner_text()


def has(page: Page, selector: str, count: int) -> bool:
    """Whether so many elements match."""
    return page.locator(selector).count() == count


def confirmed(page: Page, action: str) -> None:
    """Click an action of the job shown, and the second button of the question that follows."""
    page.click(f"[data-action={action}]")
    page.click("dialog .dialog-actions button:nth-child(2)")


def test_first_page(site: Site, visit: Visit) -> None:
    """Services, node, store and connection are there, under a policy without loopholes."""
    site.ended(site.submit("echo"))
    answer = visit.page.goto(site.url)
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'; " in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert "//" not in policy
    page = visit.page
    check_shown(page, "#connection", "Live")
    check_shown(page, "table.services tr", "echo")
    check_shown(page, "section.panel h2", "Store")
    check_shown(page, ".node", "fsync")
    assert page.locator("svg.ring path.slot.head").count() == 1
    assert page.locator("svg.ring path.slot").count() == 4
    assert page.title().endswith("· Titanic")


def test_files_of_the_page(site: Site) -> None:
    """Every file has its type, the policy and an ETag that works; there is nothing else at that path."""
    page = site.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", page.text)
    again = site.client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    named = re.findall(r'(?:src|href)="/dashboard/([^"]+)', page.text)
    assert sorted(named) == sorted(dashboard.NAMES - {"index.html"}), "each file is asked for at once"
    for name in named:
        assert site.client.get(f"/dashboard/{name}").status_code == 200, name
    script = site.client.get("/dashboard/main.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["content-security-policy"] == page.headers["content-security-policy"]
    for stranger in ("secret.py", "..%2Fdocs.html", "%2e%2e", "index.html%00"):
        found = site.client.get(f"/dashboard/{stranger}")
        assert (found.status_code, found.headers["content-type"]) == (404, "application/problem+json")


def test_a_job_that_is_submitted_appears(site: Site, visit: Visit) -> None:
    """List and totals follow the server without a reload."""
    page = visit.open("#/jobs?service=echo")
    check_shown(page, "#connection", "Live")
    job = site.submit("echo")
    check_shown(page, f"table.jobs tr:has(a[href='#/jobs/{job}'])", "succeeded")
    page.goto(f"{site.url}/#/")
    later = site.submit("echo")
    page.locator(f".feed a[href='#/jobs/{later}']").first.wait_for()


def test_filters_and_search(site: Site, visit: Visit) -> None:
    """State and service narrow the list and stand in the address; an id, dashes and all, opens its job."""
    waiting = [site.submit("nobody.there") for _ in range(2)]
    done = site.submit("echo")
    site.ended(done)
    page = visit.open("#/jobs")
    page.locator(f"a[href='#/jobs/{waiting[0]}']").wait_for()
    page.click("label[for=state-queued]")
    page.wait_for_url("**/#/jobs?state=queued")
    page.locator(f"a[href='#/jobs/{waiting[1]}']").wait_for()
    states = page.locator("table.jobs td.state")
    until("queued ones alone", lambda: set(states.all_inner_texts()) == {"queued"})
    page.fill("#job-service", "nobody.there")
    page.press("#job-service", "Enter")
    page.wait_for_url("**/#/jobs?service=nobody.there&state=queued")
    until("two rows", lambda: page.locator("table.jobs tbody tr").count() == 2)
    page.fill("#job-search", waiting[0][:30])
    check_shown(page, "#search-note", "1 job on this page")
    assert page.locator("table.jobs tbody tr").count() == 1
    page.fill("#job-search", "zz")
    check_shown(page, ".empty", "No job on this page has this in its id.")
    dashed = "-".join((done[:8], done[8:12], done[12:16], done[16:20], done[20:])).upper()
    page.fill("#job-search", dashed)
    page.wait_for_url(f"**/#/jobs/{done}")
    check_shown(page, "h1", "Job of echo")


def test_pages(site: Site, visit: Visit) -> None:
    """Older and newest jobs by the server's cursor; every job is on exactly one page."""
    lines = "\n".join(f"line {number}" for number in range(70)) + "\n"
    headers = {"content-type": "application/x-ndjson"}
    answer = site.client.post("/v1/services/paged/jobs:batch", content=lines, headers=headers)
    assert answer.status_code == 202, answer.text
    page = visit.open("#/jobs?service=paged")
    rows = page.locator("table.jobs tbody tr")
    until("a full page", lambda: rows.count() == 50)
    first = set(page.locator("table.jobs .id").all_inner_texts())
    assert page.get_by_role("link", name="Newest").count() == 0
    page.get_by_role("link", name="Older").click()
    until("the rest", lambda: rows.count() == 20)
    second = set(page.locator("table.jobs .id").all_inner_texts())
    assert len(first | second) == 70
    page.get_by_role("link", name="Newest").click()
    until("a full page again", lambda: rows.count() == 50)


def test_life_and_reply_of_a_job(site: Site, visit: Visit) -> None:
    """The steps of a job that ended before the page was opened; its reply and its download."""
    job = site.submit("echo", "grüße, <i>titanic</i>", content_type="text/plain; charset=utf-8")
    site.ended(job)
    page = visit.open(f"#/jobs/{job}")
    check_shown(page, ".steps", "Reply stored")
    check_shown(page, ".steps", "Attempt 1 started")
    assert text_of(page, ".steps li").startswith("Accepted")
    until("the span of its attempt", lambda: page.locator(".life-bar .span.running").count() == 1)
    assert page.locator(".life-bar").get_attribute("aria-label", timeout=1000)
    check_shown(page, "pre.reply-text", "grüße, <i>titanic</i>")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == "grüße, <i>titanic</i>".encode()
    assert download.value.suggested_filename.startswith(job)


def test_reply_that_is_no_text_or_too_long(site: Site, visit: Visit) -> None:
    """Bytes are shown as bytes; of a long reply the first 64 KiB, of a huge one nothing until asked for."""
    binary = site.submit("echo", bytes(range(256)))
    long = site.submit("echo", "x" * 200_000)
    huge = site.submit("echo", "y" * 1_200_000)
    for job in (binary, long, huge):
        site.ended(job)
    page = visit.open(f"#/jobs/{binary}")
    check_shown(page, "pre.reply-text.hex", "0040  40 41 42 43")
    page = visit.open(f"#/jobs/{long}")
    check_shown(page, ".panel .note", "the first 64 KiB are shown")
    assert len(text_of(page, "pre.reply-text")) == 65_536
    page = visit.open(f"#/jobs/{huge}")
    check_shown(page, ".panel .note", "1.1 MiB.")
    assert text_of(page, "section:has(#reply-title) pre") == ""
    page.get_by_role("button", name="Show the beginning").click()
    check_shown(page, ".panel .note", "the first 64 KiB are shown")


def test_cancel_and_close(site: Site, visit: Visit) -> None:
    """Each asks first; a no changes nothing; a yes acts on the server and shows the state it led to."""
    job = site.submit("nobody.there")
    page = visit.open(f"#/jobs/{job}")
    check_shown(page, ".view-head .badge", "queued")
    page.click("[data-action=cancel]")
    assert page.locator("dialog button:focus").inner_text() == "Let it run"
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert site.state(job) == "queued"
    confirmed(page, "cancel")
    check_shown(page, ".view-head .badge", "cancelled")
    assert site.state(job) == "cancelled"
    actions = page.locator("[data-action]:visible")
    until("nothing but Close is offered", lambda: actions.all_inner_texts() == ["Close"])
    confirmed(page, "close")
    check_shown(page, ".banner", "This job is closed")
    check_shown(page, ".steps", "Closed: request and reply deleted")
    assert site.state(job) == "gone"
    until("nothing is offered", lambda: page.locator(".actions-bar button:visible").count() == 0)
    visit.forgiven.append("410")


def test_dead_letter(site: Site, visit: Visit) -> None:
    """A job whose attempts all failed tells each attempt and its reason; retry puts it back."""
    job = site.submit("broken", query="?attempts=1")
    assert site.ended(job) == "failed"
    page = visit.open(f"#/jobs/{job}")
    check_shown(page, "pre.mistake", "<b>no luck</b>")
    check_shown(page, ".steps", "Failed: a dead letter")
    confirmed(page, "retry")
    check_shown(page, ".steps", "Put back by hand")
    check_shown(page, "#notice", "queued again")


def test_pause_and_resume(site: Site, visit: Visit) -> None:
    """Pausing asks first, is told on the row, and holds at the server until it is resumed."""
    site.submit("pausable")
    page = visit.open()
    row = page.locator("table.services tr", has_text="pausable")
    row.get_by_role("button", name="Pause pausable").click()
    page.get_by_role("button", name="Pause it").click()
    row.locator(".badge.paused").wait_for()
    assert site.client.get("/v1/services/pausable").json()["paused"] is True
    row.get_by_role("button", name="Resume pausable").click()
    row.locator(".badge.paused").wait_for(state="hidden")
    assert site.client.get("/v1/services/pausable").json()["paused"] is False


def without(*paths: str) -> Callable[[Any], None]:
    """A route handler: the server's own OpenAPI document, less these paths."""

    def handle(route: Any) -> None:
        document = httpx.get(route.request.url, timeout=10).json()
        for path in paths:
            del document["paths"][path]
        route.fulfill(json=document)

    return handle


def test_what_the_server_does_not_offer_is_not_shown(site: Site, visit: Visit) -> None:
    """Panels exist for paths of the OpenAPI document only; without events the page polls."""
    visit.page.route("**/openapi.json", without("/v1/store", "/v1/nodes", "/v1/events"))
    page = visit.open()
    check_shown(page, "#connection", "Polling")
    check_shown(page, "table.services tr", "echo")
    assert page.locator("#store-title, #nodes-title, #feed-title").count() == 0
    job = site.submit("echo")
    page.goto(f"{site.url}/#/jobs")
    page.locator(f"a[href='#/jobs/{job}']").wait_for()


PAIR = [
    {"role": "active", "ready": True, "reason": None, "epoch": 7, "sequence": 4711, "lag": 0},
    {"role": "passive", "ready": False, "reason": "passive", "epoch": 7, "sequence": 4690, "lag": 21},
]


def test_pair(site: Site, visit: Visit) -> None:
    """Two nodes are a pair, with role, epoch and lag of each; what is not told is a dash."""
    found = site.client.get("/v1/nodes").json()["nodes"][0]
    bare = {**found, "jobs": None, "started_at": None}
    visit.page.route(
        "**/v1/nodes", lambda route: route.fulfill(json={"nodes": [{**bare, **row} for row in PAIR]})
    )
    page = visit.open()
    check_shown(page, "#nodes-title", "Pair")
    check_shown(page, ".node:nth-child(1)", "active")
    check_shown(page, ".node:nth-child(2)", "21 records")
    check_shown(page, ".node:nth-child(2)", "—")


LOST = {
    "name": "backup",
    "role": "unknown",
    "state": "paired",
    "ready": False,
    "reachable": False,
    "reason": "no answer",
    "in_sync": False,
    "durability": None,
    "heard_ms_ago": 8_000,
}


def test_a_node_that_does_not_answer(site: Site, visit: Visit) -> None:
    """What it was is not told as what it is; its badge keeps its shape beside a title of two lines."""
    found = site.client.get("/v1/nodes").json()["nodes"][0]
    active = {**found, **PAIR[0], "name": "primary", "state": "taken"}
    visit.page.route("**/v1/nodes", lambda route: route.fulfill(json={"nodes": [active, {**found, **LOST}]}))
    page = visit.open()
    check_shown(page, ".node:nth-child(2)", "was paired, 8 s ago")
    check_shown(page, ".node:nth-child(2) .badge", "does not answer")
    heights = [box["height"] for box in map(_box, page.locator(".node .badge").all())]
    assert heights[0] == heights[1], "on one line, and no higher than that"
    reason, facts = (_box(page.locator(f".node:nth-child(2) {name}")) for name in (".fault", ".facts"))
    assert facts["y"] >= reason["y"] + reason["height"] + 8, "there is room between them"


def _box(locator: Locator) -> FloatRect:
    found = locator.bounding_box()
    assert found is not None, "it is shown"
    return found


def test_ring_of_any_size(site: Site, visit: Visit) -> None:
    """One slot, a few and a thousand make a ring of at most 240 pieces, tail and head marked."""
    store = site.client.get("/v1/store").json()
    visit.page.route("**/v1/store", lambda route: route.fulfill(json=store))
    page = visit.open()
    for slots, pieces in ((1, 1), (7, 7), (1_000, 200)):
        store["chunks"] = [{"turn": at + 1, "state": "alive", "alive": at} for at in range(slots)]
        store["chunks"][-1]["state"] = "head"
        store["facts"] |= {"tail_turn": 1, "chunks": slots}
        page.keyboard.press("r")
        until(f"{pieces} pieces", partial(has, page, "svg.ring path.slot", pieces))
        assert page.locator("svg.ring path.slot.tail").count() == 1
        assert page.locator("svg.ring path.slot.head").count() == 1


def test_leaving_in_the_middle_of_a_question(site: Site, visit: Visit) -> None:
    """Views that end while the server is thinking leave no error and no late drawing behind."""
    held: list[Any] = []
    visit.page.route("**/v1/jobs?*", lambda route: held.append(route))
    page = visit.open("#/jobs")
    until("a question", lambda: page.evaluate("1") and held)
    page.evaluate("location.hash = '#/'")
    check_shown(page, "#services-title", "Services")
    page.evaluate("location.hash = '#/jobs?state=failed'")
    until("the next question", lambda: page.evaluate("1") and len(held) > 1)
    page.evaluate("location.hash = '#/'")
    check_shown(page, "#services-title", "Services")
    page.unroute("**/v1/jobs?*")
