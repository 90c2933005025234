"""The pages beside the dashboard, and callbacks on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.browser.conftest import Site, check_shown, visit_of
from tests.support.processes import Processes, until
from tests.support.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_docs_follow_the_reader_s_scheme(browser: Browser, site: Site, scheme: str) -> None:
    """Dark ground in the dark, light ground in the light, and nothing comes from elsewhere."""
    context, visit = visit_of(browser, site.url, color_scheme=scheme)
    page = visit.page
    page.goto(f"{site.url}/docs")
    page.wait_for_selector(".opblock-summary")
    ground = "getComputedStyle(document.documentElement).backgroundColor"

    def dressed() -> bool:
        seen = [float(part) for part in re.findall("[0-9.]+", page.evaluate(ground))]
        dark = max(seen[:3]) < 100 and seen[3:] != [0]  # transparent is the browser's white
        return dark == (scheme == "dark")

    until(f"the page is {scheme}", dressed)
    visit.check()
    context.close()


def test_a_job_says_how_far_its_callback_is(family: Processes, tmp_path: Path, browser: Browser) -> None:
    """As text among its facts and as steps of its life, which ends with the job all the same."""
    command = ("serve", "--data", str(tmp_path), "--http", "127.0.0.1:0", "--broker", "tcp://127.0.0.1:0")
    facts = family.start(*command, "--json", "--callback-allow", "loopback").facts()
    family.start("worker", "echo", "--nodes", facts["broker"])
    with receiving() as receiver, httpx.Client(base_url=facts["http"], timeout=30) as client:
        site = Site(facts["http"], facts["broker"], client)
        job = site.submit("echo", query=f"?callback={receiver.url}")
        site.ended(job)
        context, visit = visit_of(browser, site.url)
        page = visit.open(f"#/jobs/{job}")
        check_shown(page, ".steps", "Callback")
        check_shown(page, "dl.facts", receiver.url)
        assert page.locator(f'a[href="{receiver.url}"]').count() == 0
        visit.check()
        context.close()


def test_the_docs_fit_a_phone(browser: Browser, site: Site) -> None:
    """An operation that is open is not wider than the page, and nothing optional is filled in."""
    context, visit = visit_of(browser, site.url, viewport={"width": 390, "height": 844})
    page = visit.page
    page.goto(f"{site.url}/docs#/jobs/titanic.request")
    page.locator(".parameters-col_description input").first.wait_for()
    until("it fits", lambda: page.evaluate("document.documentElement.scrollWidth") <= 390)
    filled = [field.input_value() for field in page.locator(".parameters input[type=text]").all()]
    assert filled[0] == "wordcount"
    assert not any(filled[1:]), filled
    visit.check()
    context.close()
