"""The pages in a real browser: they draw, keep to themselves, and fit a phone."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from anomaly.calibration_report import tabulate
from anomaly.settings import Settings
from anomaly.store import Store, open_engine, schema
from anomaly.telemetry.collector import build_registry
from anomaly.web.app import create_app
from anomaly.web.words import flag_url, user_url
from tests.factories import MONTH, NASTY_NAMES, RUN_AT, month_of_flags, publish_month
from tests.fixtures.serving import door_of, serving

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
TIMEOUT_MS = 20_000
Open = Callable[..., Page]


def model_in_use() -> Any:
    """What the model's page shows of a model: one cohort's deviations spread too far."""
    deviation = np.random.default_rng(0).standard_normal((20, 2_000, 2)).astype(np.float32)
    deviation[:5] *= 1.5
    known = np.ones(deviation.shape, dtype=bool)
    hour = np.broadcast_to(np.arange(2_000) % 24, (20, 2_000))
    found = tabulate(deviation, known, ("files", "logons"), ["a"] * 5 + ["b"] * 15, hour)
    summary = SimpleNamespace(
        users=20, trained_from=0, trained_to=86_400, validation_loss=1.0, twin_loss=1.1
    )
    return SimpleNamespace(version="c0ffee", summary=summary, calibration=found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    engine = open_engine(f"sqlite:///{folder / 'anomaly.db'}")
    schema.upgrade(engine)
    store = Store(engine)
    publish_month(store)
    leads = bool
    registry = build_registry(store, leads, lambda: RUN_AT)
    app = create_app(store, Settings(), registry, leads, door_of(store), model_in_use)
    with serving(app) as address:
        yield address
    store.close()


@pytest.fixture
def visit(chromium: Browser, site: str) -> Iterator[Open]:
    """Opens an address of the site; complaints and requests to elsewhere fail the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    elsewhere: list[str] = []

    def opened(address: str, size: dict[str, int] = DESKTOP, scheme: str = "light") -> Page:
        context = chromium.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(error.message))
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(site + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in elsewhere if not url.startswith((site + "/", "data:"))] == []


def strongest() -> str:
    return flag_url(max(month_of_flags()[0], key=lambda flag: flag.score).flag_id)


def drawn(page: Page) -> None:
    plot = page.locator("[data-plot]").first
    expect(plot).to_have_attribute("data-drawn", "", timeout=TIMEOUT_MS)


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def highest(page: Page) -> float:
    """The top of the plot's vertical axis."""
    return float(page.evaluate("document.querySelector('.plot').layout.yaxis.range[1]"))


def test_from_the_month_to_the_user_to_the_flag(visit):
    page = visit("/")
    page.locator("#users").get_by_role("link", name="u007").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("u007 in March 2026")
    drawn(page)
    page.locator("#month").get_by_role("link", name="Burst of files_read").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("u007: burst of files_read")
    drawn(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plot_shows_band_expectation_observation_and_the_flagged_span(visit, scheme):
    page = visit(strongest(), scheme=scheme)
    drawn(page)
    plot = page.locator(".plot")
    expect(plot.locator(".scatterlayer path.js-line")).to_have_count(5)
    expect(plot.locator(".scatterlayer .js-fill")).to_have_count(1)
    expect(plot.locator(".shapelayer path")).to_have_count(1)
    span = plot.locator(".shapelayer path").bounding_box()
    whole = plot.bounding_box()
    assert span is not None
    assert whole is not None
    assert 0 < span["width"] < whole["width"] / 10
    assert span["height"] > whole["height"] / 2


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_month_is_a_map_with_the_flags_over_it(visit, size):
    page = visit(user_url("u007", MONTH), size)
    expect(page.locator("[data-map]")).to_have_attribute("data-drawn", "")
    plot = page.locator(".plot.map")
    expect(plot.locator(".shapelayer path")).to_have_count(2)
    shape = "const z = document.querySelector('.plot.map').data[0].z; [z.length, z[0].length]"
    assert page.evaluate(f"(() => {{ {shape.replace('; [', '; return [')} }})()") == [24, 31]
    page.get_by_role("button", name="Amounts").click()
    expect(page.locator("[data-shows=departure]")).to_be_hidden()
    page.get_by_role("navigation", name="Metric").get_by_role("link", name="bytes_out").click()
    page.wait_for_url("**metric=bytes_out**")
    expect(page.locator("[data-map]")).to_have_attribute("data-drawn", "")
    assert overflow(page) <= 0


def test_arrow_keys_lead_from_flag_to_flag(visit):
    page = visit(strongest())
    first = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(first)


def test_the_usual_range_can_be_looked_at_closely(visit):
    page = visit(strongest())
    drawn(page)
    assert highest(page) > 400
    close = page.get_by_role("button", name="Fit the usual range")
    close.click()
    expect(close).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("document.querySelector('.plot').layout.yaxis.range[1] < 50")


def test_the_colours_follow_the_machine(visit):
    page = visit(strongest())
    drawn(page)
    line = page.locator(".scatterlayer .js-line").last
    light = line.evaluate("element => getComputedStyle(element).stroke")
    page.emulate_media(color_scheme="dark")
    # Asked from outside: the page's policy forbids the polling of wait_for_function.
    expect(line).not_to_have_css("stroke", light)


def test_the_numbers_of_a_plot_can_be_read(visit):
    page = visit(strongest())
    page.get_by_text("The numbers of this plot").click()
    table = page.get_by_role("region", name="The numbers of the plot of files_read")
    expect(table.get_by_role("row")).to_have_count(1 + 148)
    expect(table.get_by_text("flagged", exact=True)).to_have_count(4)


@pytest.mark.parametrize(
    "address",
    ["/", user_url("u007", MONTH), *(user_url(name, MONTH) for name in NASTY_NAMES), strongest()],
)
def test_nothing_is_wider_than_a_phone(visit, address):
    page = visit(address, PHONE)
    if address != "/":
        drawn(page)
    assert overflow(page) <= 0


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_link_leads_to_the_user_of_that_name(visit, name):
    page = visit("/")
    page.locator(f"#users a[href='{user_url(name, MONTH)}']").click()
    heading = page.get_by_role("heading", level=1)
    assert heading.text_content() == f"{name} in March 2026"


def test_a_month_can_be_filtered_by_keyboard_alone(visit):
    page = visit("/")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Severity").select_option("high")
    page.get_by_role("button", name="Filter").press("Enter")
    page.wait_for_url("**severity=high**")
    flags = page.locator("#flags tbody tr")
    expect(flags).to_have_count(1)
    expect(flags).to_contain_text("u012")


def test_all_that_can_be_used_has_a_name(visit):
    page = visit(strongest())
    drawn(page)
    for kind in ("link", "button", "img"):
        for element in page.get_by_role(kind).all():
            label = element.get_attribute("aria-label") or element.text_content()
            assert (label or "").strip()
    assert page.locator("main").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_no_page_keeps_anybody_out(visit, size, scheme):
    """axe finds nothing serious, on a desk in light and on a phone in the dark."""
    addresses = (
        "/", user_url("u007", MONTH), strongest(), "/model", "/suppressions",
        f"/cohorts?month={MONTH}&cohort=engineers",
    )  # fmt: skip
    found = []
    for address in addresses:
        page = visit(address, size, scheme)
        if page.locator("[data-plot]").count():
            drawn(page)
        for one in Axe().run(page).response["violations"]:
            if one["impact"] in ("serious", "critical"):
                nodes = [node["html"][:100] for node in one["nodes"][:3]]
                found.append(f"{address}: {one['id']}: {nodes}")
        assert overflow(page) <= 0
        page.context.close()
    assert found == []


def test_a_flag_is_seen_at_a_glance_against_what_was_expected(visit):
    page = visit(strongest())
    glance = page.get_by_role("img", name="observed; ")
    expect(glance).to_have_count(1)
    assert "expected" in (glance.get_attribute("aria-label") or "")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_model_shows_whose_chances_are_off(visit, size):
    page = visit("/model", size)
    expect(page.locator("[data-calibration]")).to_have_attribute("data-drawn", "")
    assert overflow(page) <= 0
    curves = "document.querySelector('.plot').data.map((curve) => curve.name)"
    assert page.evaluate(curves) == ["all, too much", "all, too little"]
    page.get_by_role("button", name="By cohort").click()
    assert len(page.evaluate(curves)) == 4
    page.get_by_text("By cohort", exact=True).last.click()
    expect(page.get_by_role("region", name="By cohort")).to_contain_text("off")
