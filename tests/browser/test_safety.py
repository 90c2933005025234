"""Hostile job data, keys, floods and outages: what the page must stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from tests.browser.conftest import Site, Visit, check_shown, visit_of
from tests.support.processes import Processes, Titanic, free_port, run, until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

IMAGE: Final = "<img src=x onerror=\"document.title='owned'\">"
SCRIPT: Final = "<script>document.title='owned'</script>"


def serve(family: Processes, data: Path, http: str = "127.0.0.1:0") -> tuple[Titanic, dict[str, Any]]:
    """A ready server and its facts."""
    server = family.start(
        *("serve", "--data", str(data), "--http", http, "--broker", "tcp://127.0.0.1:0", "--json")
    )
    return server, server.facts()


def check_text_only(page: Page) -> None:
    """Nothing of what was sent became an element, and nothing of it ran."""
    assert page.title() != "owned"
    assert page.locator("#view img, #view script, #view iframe, #view b > b").count() == 0


def test_markup_stays_text(site: Site, visit: Visit, family: Processes) -> None:
    """Service name, body and content type with markup in them are shown as the characters they are."""
    service = "<img src=x onerror=alert(1)>"
    family.start("worker", service, "--exec", "cat", "--nodes", site.broker)
    job = site.submit(quote(service, safe=""), SCRIPT + IMAGE, content_type="text/html")
    site.ended(job)
    page = visit.open()
    check_shown(page, "table.services a", service)
    check_text_only(page)
    page.goto(f"{site.url}/#/jobs")
    check_shown(page, "table.jobs td.service", service)
    check_text_only(page)
    page.goto(f"{site.url}/#/jobs/{job}")
    check_shown(page, "pre.reply-text", SCRIPT + IMAGE)
    check_shown(page, "h1", service)
    check_text_only(page)
    page.goto(f"{site.url}/#/jobs?service={quote(SCRIPT)}")
    check_shown(page, ".empty", "There is no job that fits.")
    check_text_only(page)
    page.goto(f"{site.url}/#/jobs/{quote(SCRIPT)}")
    check_shown(page, "h1", "Not a job id")
    check_text_only(page)


def test_reason_with_markup_stays_text(site: Site, visit: Visit) -> None:
    """What a worker says of its failure is text on every view."""
    job = site.submit("broken", query="?attempts=1")
    site.ended(job)
    page = visit.open("#/jobs?state=failed")
    check_shown(page, "table.jobs .note-cell", "<b>no luck</b>")
    check_text_only(page)
    page.goto(f"{site.url}/#/jobs/{job}")
    check_shown(page, ".step-detail", "<b>no luck</b>")
    check_text_only(page)


def test_the_browser_refuses_markup(visit: Visit) -> None:
    """Even a mistake in the page could not turn text into elements: trusted types forbid it."""
    page = visit.open()
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    )
    assert refused == "TypeError"
    visit.forgiven.append("TrustedHTML")


def test_unknown_job(visit: Visit) -> None:
    """An id that was never issued is said in words."""
    page = visit.open(f"#/jobs/{'0' * 32}")
    check_shown(page, "main .banner", "No job has this id.")
    visit.forgiven.append("404")


def test_key(browser: Browser, family: Processes, tmp_path: Path) -> None:
    """A server with keys is answered with a dialog; the key stays in the tab, and a wrong one is told."""
    data = tmp_path / "data"
    made = run("keys", "create", "viewer", "--scope", "read", "--keys", str(data / "keys.json"), "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["key"]
    _, facts = serve(family, data)
    context, visit = visit_of(browser, facts["http"])
    visit.forgiven.append("401")
    page = visit.open()
    page.locator("dialog.key-dialog").wait_for()
    check_shown(page, "#connection", "Key needed")
    page.fill("#key-input", "not a key")
    page.keyboard.press("Enter")
    check_shown(page, "#key-fault", "printable ASCII without blanks")
    page.fill("#key-input", "0123456789abcdef.wrong")
    page.keyboard.press("Enter")
    check_shown(page, "dialog.key-dialog", "does not know the key")
    page.fill("#key-input", f"Bearer {key}")
    page.keyboard.press("Enter")
    check_shown(page, "#connection", "Live")
    check_shown(page, ".empty", "No service yet.")
    assert page.evaluate("sessionStorage.getItem('titanic.key')") == key
    assert page.evaluate("localStorage.length") == 0
    assert not context.cookies()
    page.reload()
    check_shown(page, "#connection", "Live")
    page.click("#key-button")
    page.get_by_role("button", name="Forget the key").click()
    check_shown(page, "#connection", "Key needed")
    context.close()
    visit.check()


def test_server_goes_and_comes_back(browser: Browser, family: Processes, tmp_path: Path) -> None:
    """An outage is said in words, what was known stays; the page is live again once the server is."""
    http = f"127.0.0.1:{free_port()}"
    server, facts = serve(family, tmp_path / "data", http)
    submitted = httpx.post(f"{facts['http']}/v1/services/echo/jobs", content=b"work")
    assert submitted.status_code == 202
    context, visit = visit_of(browser, facts["http"])
    visit.forgiven += [
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY",
    ]
    page = visit.open()
    check_shown(page, "table.services tr", "echo")
    check_shown(page, "#connection", "Live")
    server.kill()
    check_shown(page, "#connection", "Disconnected")
    check_shown(page, "#banner", "The server cannot be reached.")
    assert page.locator("table.services tr", has_text="echo").count() == 1
    again: dict[str, Any] = {}

    def restarted() -> bool:
        try:
            again.update(serve(family, tmp_path / "data", http)[1])
        except AssertionError as error:  # the children of the killed server are about to end
            print(error)
        return bool(again)

    until("the server's return", restarted)
    page.keyboard.press("r")
    check_shown(page, "#connection", "Live")
    page.locator("#banner").wait_for(state="hidden")
    context.close()
    visit.check()


def test_flood_of_events(site: Site, visit: Visit) -> None:
    """More events than anybody can read are not drawn one by one: the page polls for a while and says so."""
    line = {
        "at": "2025-11-23T13:53:00.123Z",
        "job": "0" * 32,
        "service": "echo",
        "attempt": 1,
        "detail": None,
    }
    events = (
        f"id: {number}\nevent: started\ndata: {json.dumps({**line, 'kind': 'started'})}\n\n"
        for number in range(600)
    )
    flood = "".join(events)
    page = visit.page
    page.route("**/v1/events*", lambda route: route.fulfill(body=flood, content_type="text/event-stream"))
    visit.open()
    check_shown(page, "#connection", "Polling")
    check_shown(page, ".empty", "So much happens")
    assert page.locator(".feed li").count() <= 8
    job = site.submit("echo")
    page.goto(f"{site.url}/#/jobs")
    page.locator(f"a[href='#/jobs/{job}']").wait_for()


FOLLOW: Final = """async () => {
    const [{ Api }, { Stream }] = [await import("/dashboard/api.js"), await import("/dashboard/live.js")];
    window.stream = new Stream(new Api());
    window.heard = [];
    stream.addEventListener("event", ({ detail }) => heard.push(`${detail.kind} ${detail.job}`));
    stream.start();
}"""


def test_stream_that_was_cut_is_resumed(site: Site, visit: Visit) -> None:
    """A stream that comes back asks for what it missed, and tells each event once."""
    page = visit.open()
    page.evaluate(FOLLOW)
    until("an open stream", lambda: page.evaluate("stream.state") == "open")
    first = site.submit("echo")
    until("its events", lambda: f"succeeded {first}" in page.evaluate("heard"))
    page.evaluate("stream.stop()")
    missed = site.submit("echo")
    site.ended(missed)
    page.evaluate("stream.start()")
    until("what was missed", lambda: f"succeeded {missed}" in page.evaluate("heard"))
    heard = page.evaluate("heard")
    assert [line for line in heard if line.endswith(missed)] == [
        f"{kind} {missed}" for kind in ("accepted", "started", "succeeded")
    ]
    assert len(heard) == len(set(heard))


PARSE: Final = """async (size) => {
    const { EventParser } = await import("/dashboard/live.js");
    const text = "retry: 1000\\n\\nid: 7\\nevent: gap\\ndata: {\\"to\\":7}\\n\\n: beat\\n\\nid: 8\\n\\n"
        + "id: 9\\r\\nevent: closed\\r\\ndata:a\\r\\ndata: b\\r\\n\\r\\nid: 10\\ndata: cut";
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
    return found;
}"""


def test_event_parser(visit: Visit) -> None:
    """Whole, in pieces and character by character: the same events; an event without its end is none."""
    page = visit.open()
    for size in (1, 2, 3, 7, 1_000):
        assert page.evaluate(PARSE, size) == [
            {"id": "7", "event": "gap", "data": '{"to":7}'},
            {"id": "8"},
            {"id": "9", "event": "closed", "data": "a\nb"},
        ], size
