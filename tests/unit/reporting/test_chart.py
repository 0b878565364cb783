"""The chart: a picture that is the same every time, and that any browser may show."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from airflow_provider_carbonmark.reporting.chart import Bars, image, picture, svg

SVG = "{http://www.w3.org/2000/svg}"
MONTHS = [Bars(f"2026-{month:02}", Decimal(month) * 10, Decimal(month) * 9) for month in range(1, 13)]


def drawn(*bars: Bars, lying: bool = False) -> Element:
    return ElementTree.fromstring(svg(bars, lying=lying))


def sizes(tree: Element, lying: bool = False) -> list[float]:
    """Return the lengths of the bars, series by series."""
    side = "width" if lying else "height"
    return [
        float(bar.attrib[side]) for bar in tree.iter(f"{SVG}rect") if "rect" in bar.get("class", "").split()
    ]


@pytest.mark.parametrize("lying", [False, True])
@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width", [920, 340])
def test_a_drawing_has_no_script_and_names_nothing_elsewhere(lying: bool, is_dark: bool, width: int) -> None:
    drawing = svg(MONTHS, width=width, is_dark=is_dark, lying=lying).decode()
    assert not re.search(r"script|href|@import|url\(|<!--|javascript", drawing, re.IGNORECASE)
    assert set(re.findall(r"https?://[^\"' <]+", drawing)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("lying", [False, True])
def test_bars_are_as_long_as_the_tonnes_are_many(lying: bool) -> None:
    tree = drawn(Bars("a", Decimal(40), Decimal(10)), Bars("b", Decimal(20), Decimal(20)), lying=lying)
    lengths = sorted(sizes(tree, lying))
    assert len(lengths) == 4
    assert lengths[1] == pytest.approx(2 * lengths[0])
    assert lengths[2] == pytest.approx(2 * lengths[0])
    assert lengths[3] == pytest.approx(4 * lengths[0])


@pytest.mark.parametrize("lying", [False, True])
def test_bars_stand_in_the_order_given(lying: bool) -> None:
    tree = drawn(*MONTHS[:3], lying=lying)
    places = {text.text: float(text.attrib["y" if lying else "x"]) for text in tree.iter(f"{SVG}text")}
    assert all(places[one.label] < places[next.label] for one, next in pairwise(MONTHS[:3]))


@pytest.mark.parametrize("lying", [False, True])
def test_where_nothing_is_known_nothing_is_drawn_and_bars_of_nothing_have_a_length_all_the_same(
    lying: bool,
) -> None:
    assert len(sizes(drawn(MONTHS[0], Bars("Nov", None, None)))) == 2
    assert sizes(drawn(MONTHS[0], Bars("Nov", Decimal(0), Decimal(0)), lying=lying), lying).count(0) == 2


@pytest.mark.parametrize(
    "bars",
    [
        [],
        [Bars("a", Decimal(0), Decimal(0))],
        [Bars("a", None, None)],
        [Bars("a", Decimal("-2.5"), Decimal(0))],
        [Bars("a", Decimal("1E-9"), Decimal("0.001"))],
        [Bars("a", Decimal("8999999999"), Decimal(1))],
        [
            Bars("<script>alert(1)</script>", Decimal(1), Decimal(1)),
            Bars("\x00\x0b\ud800&\"'", Decimal(1), Decimal(1)),
        ],
        [Bars("x" * 10_000, Decimal(1), Decimal(1)), Bars("", Decimal(1), Decimal(1))],
    ],
)
@pytest.mark.parametrize("lying", [False, True])
def test_whatever_there_is_can_be_drawn(bars: list[Bars], lying: bool) -> None:
    for width in (920, 340):
        drawing = svg(bars, width=width, lying=lying)
        assert ElementTree.fromstring(drawing).tag == f"{SVG}svg"
        assert len(drawing) < 20_000


def test_a_picture_is_for_wide_and_narrow_light_and_dark() -> None:
    html = picture(MONTHS, 'Emitted "against" <retired>')
    media = re.findall(r'<source media="([^"]+)"', html)
    assert media == [
        "(prefers-color-scheme: dark) and (max-width: 40rem)",
        "(prefers-color-scheme: dark)",
        "(max-width: 40rem)",
    ]
    pictures = [base64.b64decode(data) for data in re.findall(r'"data:image/svg\+xml;base64,([^"]+)"', html)]
    assert pictures == [
        svg(MONTHS, width=340, is_dark=True),
        svg(MONTHS, is_dark=True),
        svg(MONTHS, width=340),
        svg(MONTHS),
    ]
    assert 'alt="Emitted &#34;against&#34; &lt;retired&gt;"' in html


def test_paper_gets_the_wide_and_light_one() -> None:
    assert base64.b64encode(svg(MONTHS, lying=True)).decode() in image(MONTHS, "alt", lying=True)


def drawn_apart(setting: str) -> bytes:
    """Return the drawings of an interpreter of its own that was set up so."""
    code = (
        f"import sys; {setting}\n"
        "from decimal import Decimal; from airflow_provider_carbonmark.reporting.chart import Bars, svg\n"
        "bars = [Bars('a <b>', Decimal(4), Decimal(0)), Bars('Übersee', None, None)]\n"
        "sys.stdout.buffer.write(svg(bars) + svg(bars, lying=True))"
    )
    return subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True).stdout


def test_with_lxml_and_without_the_bytes_are_the_same() -> None:
    with_lxml = drawn_apart("import lxml.etree")
    assert with_lxml.startswith(b"<?xml")
    assert with_lxml == drawn_apart("sys.modules['lxml'] = None")


def test_only_who_draws_loads_the_library_and_imports_that_fail_stay_quiet() -> None:
    code = (
        "import sys; from airflow_provider_carbonmark.reporting import chart; assert 'pygal' not in sys.modules\n"
        "chart.svg([]); assert 'pygal' in sys.modules\n"
        "try: import there_is_no_such_module\n"
        "except ModuleNotFoundError: pass"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
