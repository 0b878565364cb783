"""The report's page in a real browser: wide and narrow, light and dark, and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_carbonmark.reporting import make_report
from tests.e2e.browser import chromium
from tests.unit.reporting.sample import REPORTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SMALLEST = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


PAGES = ["a year/index.html", "a year/public.html", "a month/index.html"]


@pytest.fixture(scope="module", params=PAGES)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name, _, page = request.param.partition("/")
    folder = tmp_path_factory.mktemp("report")
    make_report(REPORTS[name]).write(folder)
    return (folder / page).as_uri()


def opened(browser: Browser, address: str, viewport: dict[str, int], scheme: str = "light") -> Page:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(address)
    return page


@pytest.mark.parametrize("viewport", [SMALLEST, WIDE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_nothing_is_blocked(
    browser: Browser, address: str, viewport: dict[str, int], scheme: str
) -> None:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("document.querySelector('picture img').naturalWidth") == (
        340 if viewport is SMALLEST else 920
    )
    if viewport is SMALLEST:
        # Each figure says what it is.
        cell = page.locator("table.figures tbody td").first
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Emitted, t"'
        assert not page.locator("table.figures thead").first.is_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(244, 245, 243)" if scheme == "light" else "rgb(19, 22, 20)")
    context.close()


def test_text_can_be_read_on_its_background(browser: Browser, address: str) -> None:
    for scheme in ("light", "dark"):
        page = opened(browser, address, WIDE, scheme)
        worst = page.evaluate(LOWEST_CONTRAST)
        assert worst["ratio"] >= 4.5, f"{scheme}: {worst}"
        page.context.close()


# WCAG 2.2, contrast ratio of text against the nearest background that is painted.
LOWEST_CONTRAST = """() => {
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
  };
  let worst = {ratio: 21};
  for (const element of document.querySelectorAll("main *")) {
    if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: element.textContent.trim(), tag: element.tagName};
  }
  return worst;
}"""


def test_paper_is_a4_and_light_and_has_the_addresses_of_the_proof(browser: Browser, address: str) -> None:
    page = opened(browser, address, WIDE, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".on-paper img").is_visible()
    assert not page.locator(".on-screen img").is_visible()
    link = page.locator("table.by-credit td a[href^=http]").first
    printed = link.evaluate("link => getComputedStyle(link, '::after').content")
    assert link.get_attribute("href") in printed
    assert (
        page.locator("thead").first.evaluate("head => getComputedStyle(head).display") == "table-header-group"
    )
    assert b"/MediaBox [0 0 594.95996 841.91998]" in page.pdf(prefer_css_page_size=True)
    page.context.close()
