"""Keyboard, small screens, dark rooms and screen readers: who can use the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.browser.conftest import Site, Visit, check_shown, visit_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VIEWS: Final = ("#/", "#/jobs", "job")

# Contrast of text against the nearest background that is not transparent (WCAG 2.2, 1.4.3).
CONTRAST: Final = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const faults = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || !node.checkVisibility() || node.closest("svg, .unseen, .skip")) continue;
        let behind = node;
        const ground = (element) => rgb(getComputedStyle(element).backgroundColor);
        while (behind.parentElement && ground(behind)[3] < 255) behind = behind.parentElement;
        const [x, y] = [light(rgb(getComputedStyle(node).color)), light(ground(behind))];
        const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
        const words = node.textContent.slice(0, 30);
        if (ratio < 4.5) faults.push(`${node.className} "${words}" ${ratio.toFixed(2)}`);
    }
    return faults;
}"""
NAMELESS: Final = """() => [...document.querySelectorAll("button, a, input, select, svg[role=img]")]
    .filter((node) => node.checkVisibility() && !(node.getAttribute("aria-label") || node.textContent.trim()
        || node.labels?.length || node.getAttribute("aria-labelledby")))
    .map((node) => node.outerHTML)"""


def focused(page: Page) -> str:
    """The visible text of what has the focus."""
    found: str = page.evaluate("document.activeElement.textContent.trim()")
    return found


def check_focused(page: Page, words: str) -> None:
    """Wait until what has the focus shows these words; fails after the deadline, saying what has it.

    The address changes first and the view is drawn after it: an assertion in between sees the old page.
    """
    shows = "words => document.activeElement.textContent.trim() === words"
    try:
        page.wait_for_function(shows, arg=words)
    except Exception as error:
        raise AssertionError(f"{focused(page)[:200]!r} has the focus, not {words!r}") from error


def look_at(site: Site, visit: Visit, view: str) -> Page:
    """One of the views, drawn to its end: a dead letter for the job."""
    if view != "job":
        page = visit.open(view)
        page.locator("tbody tr").first.wait_for()
        return page
    job = site.submit("broken", query="?attempts=1")
    site.ended(job)
    page = visit.open(f"#/jobs/{job}")
    check_shown(page, ".steps", "Failed: a dead letter")
    return page


def test_tab_order(site: Site, visit: Visit) -> None:
    """The first Tab is the skip link, which leads to the view; then brand, views, help."""
    page = look_at(site, visit, "#/")
    page.keyboard.press("Tab")
    check_focused(page, "Skip to the content")
    page.keyboard.press("Enter")
    check_focused(page, "Services")
    page.reload()
    page.locator("tbody tr").first.wait_for()
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == ["Skip to the content", "Titanic", "Services", "Jobs", "API", "?"]


def test_keyboard_alone(site: Site, visit: Visit) -> None:
    """From the services to a job, through it and back, without a pointer; the focus is never lost."""
    jobs = [site.submit("keyboard") for _ in range(3)]
    page = look_at(site, visit, "#/")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/#/jobs")
    check_focused(page, "Jobs")
    page.locator(f"a[href='#/jobs/{jobs[0]}']").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    check_focused(page, jobs[2])
    page.keyboard.press("Enter")
    check_shown(page, "h1", "Job of keyboard")
    page.locator("[data-shortcut=c]:visible").wait_for()
    page.keyboard.press("c")
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    check_shown(page, ".view-head .badge", "cancelled")
    page.wait_for_function("document.activeElement !== document.body")
    assert site.state(jobs[2]) == "cancelled"
    page.keyboard.press("u")
    page.wait_for_url("**/#/jobs")
    check_focused(page, "Jobs")
    page.keyboard.press("/")
    page.keyboard.type(jobs[1])
    check_shown(page, "h1", "Job of keyboard")


def test_help_and_the_switch(visit: Visit) -> None:
    """``?`` lists the shortcuts, Escape closes the list, and the switch turns single keys off for good."""
    page = visit.open()
    page.keyboard.press("?")
    check_shown(page, "dialog kbd", "?")
    page.uncheck("#shortcuts-on")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    page.keyboard.press("?")
    page.reload()
    page.locator("#view h1").wait_for(state="attached")
    page.keyboard.press("?")
    assert page.locator("dialog").count() == 0
    page.click("#help-button")
    page.check("#shortcuts-on")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.locator("dialog[open]").wait_for()


def test_keys_typed_into_a_field_are_text(site: Site, visit: Visit) -> None:
    """No shortcut acts while something is typed."""
    page = look_at(site, visit, "#/jobs")
    page.focus("#job-search")
    page.keyboard.type("gsxcr?/")
    assert page.input_value("#job-search") == "gsxcr?/"
    assert page.url.endswith("#/jobs")
    assert page.locator("dialog").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names(browser: Browser, site: Site, scheme: Any) -> None:
    """In light and dark every text stands out by 4.5 to 1, and every control has a name."""
    context, visit = visit_of(browser, site.url, color_scheme=scheme)
    for view in VIEWS:
        page = look_at(site, visit, view)
        assert page.evaluate(CONTRAST) == [], view
        assert page.evaluate(NAMELESS) == [], view
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 150) == (scheme == "dark"), ground
    context.close()
    visit.check()


def test_phone(browser: Browser, site: Site) -> None:
    """At 320 pixels nothing must be scrolled sideways, dialogs included, and controls can be hit."""
    width = 320
    site.submit("a.service.with.a.very.long.name.that.nobody.would.give.to.a.service.but.somebody.did")
    size = {"width": width, "height": 640}
    context, visit = visit_of(browser, site.url, viewport=size, is_mobile=True, has_touch=True)
    for view in VIEWS:
        page = look_at(site, visit, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        boxes = [button.bounding_box() for button in page.locator("button:visible:not(.unseen)").all()]
        assert all(box and box["height"] >= 24 for box in boxes), boxes  # WCAG 2.2, 2.5.8
    page.tap("#help-button")
    page.locator("dialog[open]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    context.close()
    visit.check()


def test_reduced_motion(browser: Browser, site: Site) -> None:
    """Who asks for less motion gets none; who does not sees the lamp breathe."""
    running = "document.getAnimations().filter((found) => found.playState === 'running').length"
    counts = []
    for motion in ("reduce", "no-preference"):
        context = browser.new_context(base_url=site.url, reduced_motion=motion)
        page = context.new_page()
        page.goto("/")
        check_shown(page, "#connection", "Live")
        counts.append(page.evaluate(running))
        context.close()
    assert counts[0] == 0
    assert counts[1] >= 1


def test_what_a_screen_reader_hears(site: Site, visit: Visit) -> None:
    """Landmarks, one heading per view, live regions for the connection and for what was done."""
    page = look_at(site, visit, "#/jobs")
    for selector in ("header", "main", "nav[aria-label]", "#connection[role=status]", "#notice[aria-live]"):
        assert page.locator(selector).count() == 1 or selector.startswith("nav")
    assert page.locator("h1").count() == 1
    assert page.locator("nav [aria-current=page]").inner_text() == "Jobs"
    assert page.get_by_role("columnheader").count() == 6
    assert page.get_by_role("row").count() > 1
    page.keyboard.press("r")
    check_shown(page, "#notice", "Asked again.")
