"""A real server with workers behind it, and Debian's Chromium in front, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.processes import processes, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM: Final = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DEADLINE_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Site:
    """A server to look at: its URL, its broker, and a client that acts behind the page's back."""

    url: str
    broker: str
    client: httpx.Client

    def submit(self, service: str, body: str | bytes = "work", query: str = "", **headers: str) -> str:
        """The id of a new job."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client.post(f"/v1/services/{service}/jobs{query}", content=body, headers=named)
        assert answer.status_code == 202, answer.text
        job: str = answer.json()["id"]
        return job

    def state(self, job: str) -> str:
        """Where the job stands; ``gone`` once it is closed."""
        answer = self.client.get(f"/v1/jobs/{job}")
        return "gone" if answer.status_code == 410 else str(answer.json()["state"])

    def ended(self, job: str) -> str:
        """Its state once it has ended."""
        return until(
            f"the end of {job}",
            lambda: state if (state := self.state(job)) in ("succeeded", "failed", "cancelled") else None,
        )


@dataclass(eq=False)  # no slots: Playwright leaves its marks on the owners of its handlers
class Visit:
    """A page and what went wrong on it: errors, and requests to anybody else."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)
    """Texts of console errors that the test provokes."""

    def open(self, where: str = "#/") -> Page:
        """The page at this address within the dashboard, with its first answer drawn."""
        self.page.goto(f"{self.url}/{where}")
        self.page.wait_for_selector("#view h1", state="attached")
        return self.page

    def note_console(self, message: Any) -> None:
        """Keep a console error that nobody foresaw."""
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text}")

    def note_request(self, request: Any) -> None:
        """Keep a request that leaves for another host."""
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.strangers.append(request.url)

    def check(self) -> None:
        """Nothing went wrong."""
        unforeseen = [text for text in self.errors if not any(known in text for known in self.forgiven)]
        assert not unforeseen, unforeseen
        assert not self.strangers, self.strangers


def check_shown(page: Page, selector: str, words: str) -> None:
    """Wait until a visible element has these words; fails after the deadline."""
    page.locator(selector, has_text=words).first.wait_for()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """``titanic serve``, an echo worker, and a worker of ``broken`` that always fails."""
    folder = tmp_path_factory.mktemp("site")
    with processes(folder) as family:
        server = family.start(
            *("serve", "--data", str(folder / "data"), "--http", "127.0.0.1:0"),
            *("--broker", "tcp://127.0.0.1:0", "--json"),
        )
        facts = server.facts()
        family.start("worker", "echo", "--nodes", facts["broker"])
        failing = "echo '<b>no luck</b>' >&2; exit 3"
        family.start("worker", "broken", "--exec", failing, "--nodes", facts["broker"])
        with httpx.Client(base_url=facts["http"], timeout=20) as client:
            yield Site(facts["http"], facts["broker"], client)


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium with an empty profile. Skipped, with the reason, where there is none."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="the Python package playwright is not installed"
    )
    if not Path(CHROMIUM).is_file():
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    with driver.sync_playwright() as started:
        found: Browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


def visit_of(browser: Browser, url: str, **options: Any) -> tuple[BrowserContext, Visit]:
    """A new profile at ``url``; every request and every console message is watched."""
    context = browser.new_context(base_url=url, reduced_motion="reduce", **options)
    context.set_default_timeout(DEADLINE_MS)
    visit = Visit(context.new_page(), url)
    context.on("request", visit.note_request)
    visit.page.on("console", visit.note_console)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    return context, visit


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    """A page at the server; nothing may have gone wrong on it when the test ends."""
    context, found = visit_of(browser, site.url, viewport={"width": 1280, "height": 900})
    yield found
    context.close()
    found.check()
