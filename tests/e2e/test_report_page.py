"""The report as a page: it fits a screen and a phone, whatever users are called."""

import pytest
from playwright.sync_api import Page

from pipelines.jobs.report import Section, as_html
from pipelines.jobs.selftest_page import heat_map
from tests.factories import NASTY_NAMES, month_of_flags

WIDTHS = (1280, 390)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_it_is_wider_than_the_screen(page: Page, width: int):
    flags, _, _ = month_of_flags()
    columns = ("start (UTC)", "user", "severity", "score", "what")
    rows = [("2026-03-12 03:00", one.user_id, "high", "4.70", one.explanation) for one in flags]
    wide = Section("Chances", "True?", ("group", *"abcdefgh"), [("metric bytes", *["too few"] * 8)])
    facts = [Section("2026-03", "Run 1 " + "x" * 500), Section("Found", "", columns, rows), wide]
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(as_html(facts))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.get_by_text(NASTY_NAMES[0], exact=True).first.is_visible()
    last = page.locator(".long td:last-child").first.bounding_box()
    assert last is not None
    assert last["x"] + last["width"] <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_self_tests_plot_fits_and_is_darker_where_more_was_found(page: Page, width: int):
    cells = {("burst", 1.0): (0, 9), ("burst", 8.0): (7, 9), ("combination", 1.0): (3, 9)}
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(as_html([Section("2026-03", "", figure=heat_map(cells))]))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.get_by_role("img", name="10 of 27 in all").is_visible()
    assert page.locator("svg").get_by_text("7/9", exact=True).is_visible()
    drawn = page.locator("svg rect").evaluate_all(
        "all => all.map(one => [one.textContent, Number(one.getAttribute('fill').match(/(\\d+)%\\)/)[1])])"
    )
    shares = [share for share, _ in sorted(drawn, key=lambda one: -one[1])]
    assert shares == ["0 %", "33.3 %", "77.7 %"]
