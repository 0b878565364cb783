"""The report's pages: valid, safe, the same for everybody; and what they say and don't."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import html5lib
import pytest

from airflow_provider_carbonmark.ledger.names import Run, State
from airflow_provider_carbonmark.reporting import make_report, page
from tests.unit.reporting.sample import NASTY, REPORTS, a_known_year, a_line, report_on

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.purchase import PurchaseLine

#: What reads as a claim, of the company or of what it sells.
CLAIMS = ("neutral", "net zero", "net-zero", "climate positive", "what was emitted is retired")
FORBIDDEN = {"script", "link", "iframe", "object", "embed", "form", "base", "svg", "audio", "video"}


def html_of(*lines: PurchaseLine, period: str = "2026-10") -> str:
    return report_on(lines, period).to_html()


def parsed(html: str) -> Element:
    """Parse a page. :raises html5lib.html5parser.ParseError: at the first thing that is not valid."""
    tree: Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)
    return tree


def links(html: str) -> list[str]:
    return [link.attrib["href"] for link in parsed(html).iter("a") if not link.attrib["href"].startswith("#")]


def text_of(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def texts(html: str, tag: str, its_class: str, within: str) -> list[str]:
    """Return the texts of the elements that are within another of a class."""
    found = [element for element in parsed(html).iter(tag) if element.get("class") == its_class]
    return [text_of(each) for element in found for each in element.iter(within)]


def row_of(html: str, table_class: str, name: str) -> str:
    """Return the text of a table's row, by what its head says."""
    (row,) = [row for row in texts(html, "table", table_class, "tr") if row.startswith(name)]
    return row


@pytest.fixture(params=[*REPORTS, "a year, public"], scope="module")
def html(request: pytest.FixtureRequest) -> str:
    name, _, public = request.param.partition(", ")
    report = make_report(REPORTS[name])
    return report.to_public_html() if public else report.to_html()


def test_a_page_is_valid_html_and_its_tables_say_what_they_are_and_what_is_in_them(html: str) -> None:
    for table in parsed(html).iter("table"):
        assert table[0].tag == "caption"
        assert text_of(table[0])
        assert {head.get("scope") for head in table.iter("th")} == {"col", "row"}
        assert len({len(row) for row in table.iter("tr")}) == 1


def test_a_page_loads_nothing_runs_nothing_and_allows_itself_its_own_style_only(html: str) -> None:
    elements = list(parsed(html).iter())
    assert not {element.tag for element in elements} & FORBIDDEN
    names = {name for element in elements for name in element.attrib}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    sources = [each.get("src") or each.get("srcset") for each in elements if each.tag in ("img", "source")]
    assert all(source and source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"@import|url\(", html)
    (policy,) = [each.attrib["content"] for each in elements if each.get("http-equiv")]
    (style,) = [each.text or "" for each in elements if each.tag == "style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(html: str) -> None:
    elements = list(parsed(html).iter())
    ids = [element.attrib["id"] for element in elements if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    within = {element.attrib["href"][1:] for element in elements if element.get("href", "").startswith("#")}
    assert within == set(ids)


def test_nothing_is_said_that_reads_as_a_claim(html: str) -> None:
    said = text_of(parsed(html)).lower()
    assert [claim for claim in CLAIMS if claim in said] == []


def test_pictures_say_what_they_show() -> None:
    html = html_of(a_line(emitted="12.5"))
    alts = {image.attrib["alt"] for image in parsed(html).iter("img")}
    assert alts == {
        "Bar chart by entity, October 2026: tonnes emitted beside tonnes retired for them. Altogether 12.500 t were emitted and "
        "12.500 t retired. The table “By entity” has the figures."
    }


def test_what_others_wrote_is_text() -> None:
    report = make_report(REPORTS["the nasty"])
    for html, least in ((report.to_html(), 40), (report.to_public_html(), 20)):
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "{{ 7*7 }}" in html
        nasty, body = " ".join(NASTY.split()), parsed(html).find("body")
        assert body is not None
        # In elements of their own, so that its direction of writing ends where it does; drawings are apart.
        shown = sum(text_of(element).count(nasty) for element in body.iter("bdi"))
        assert shown == text_of(body).count(nasty) >= least


@pytest.mark.parametrize("url", ["javascript:alert(1)", "certificate", '"><script>alert(1)</script>'])
@pytest.mark.parametrize("column", ["certificate_url", "explorer_url"])
def test_only_web_addresses_become_links(column: str, url: str) -> None:
    other = {"certificate_url": None, "explorer_url": None}
    html = html_of(a_line(**{**other, column: url}))
    assert links(html) == []
    assert "<script" not in html
    assert "not a web address" in text_of(parsed(html))


def test_the_proof_is_a_link_by_credit_and_in_the_row() -> None:
    line = a_line(certificate_url="https://example.com/c?a=1&b=\"2'", explorer_url="http://example.com/tx")
    assert links(html_of(line)) == ["https://example.com/c?a=1&b=%222'", "http://example.com/tx"] * 2


def test_signs_that_html_has_no_way_to_write_are_replaced() -> None:
    html = html_of(a_line(entity="a\x00b\x0bc\x85d\ud800e\ufffef\U0010ffffg"))
    assert "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg" in text_of(parsed(html))


def test_figures_are_shown_exactly_and_in_line() -> None:
    lines = [
        a_line(emitted="1234.5000001", quantity="1234.501", entity="api", cost_usd=Decimal("4666.41378")),
        a_line(State.LINK_MADE, "0.5", entity="web"),
    ]
    html = html_of(*lines)
    assert row_of(html, "figures", "api") == (
        "api 1,234.5000001 1,234.501 0.000 100.0 % 4,666.41378 3.78 VCS-191, 2019, VCS"
    )
    assert row_of(html, "figures", "web") == "web 0.5000000 0.000 0.500 link to pay 0.500 0.0 % 0.00000 – –"
    assert row_of(html, "figures", "Total") == (
        "Total 1,235.0000001 1,234.501 0.500 link to pay 0.500 99.9 % 4,666.41378 3.78"
    )


def test_tiles_have_two_decimals_and_tell_something_from_nothing() -> None:
    html = html_of(
        a_line(emitted="1234.567", quantity="1234.565"), a_line(State.FAILED, "0.0004", entity="b")
    )
    t = "t CO₂e"
    expected = [f"1,234.57 {t}", f"1,234.57 {t}", f"< 0.01 {t}", "99.9 %", f"0.00 {t}", "0.00 USD"]
    assert texts(html, "dl", "totals", "dd") == expected


def test_two_periods_stand_side_by_side() -> None:
    html = make_report(a_known_year()).to_html()
    assert row_of(html, "periods", "Tonnes").endswith("2026 2025")
    assert row_of(html, "periods", "Retired (cancelled) in").endswith("in the period 1,615.9527 181.881")
    assert row_of(html, "periods", "Retired (cancelled) for").endswith("of the period 1,603.452 181.881")
    assert row_of(html, "periods", "for those") == "for those of other periods 5.000 0.000"


def test_a_credit_says_what_is_known_of_it_and_what_is_not_stated() -> None:
    rows = texts(make_report(a_known_year("2026-10")).to_html(), "table", "by-credit", "tr")
    assert rows[2].startswith(
        "VCS-191 Upper Gorge Run-of-River Hydropower Renewable Energy reduction China Verified Carbon Standard 2019, ACM0002 "
        "80.000 37.3603 %"
    )
    assert "TVER-0044 name not stated not stated mechanism not stated country not stated" in rows[1]
    assert "2026-10-22 whether told or seen is not kept" in rows[1]
    assert "2026-10-22 when it was seen; nobody told when it was" in rows[3]
    assert texts(html_of(a_line()), "dl", "facts", "dd") == ["not stated"] * 7


def test_a_file_that_several_runs_read_is_told_once_and_a_changed_one_with_its_day() -> None:
    read = a_known_year().files[0]
    again = replace(read, run=Run("by hand", "again"), read_at=read.read_at + timedelta(days=1))
    changed = replace(again, sha256="1e" * 32)
    report = report_on([], "2026", files=[read, again, changed])
    _, *rows = texts(report.to_public_html(), "table", "sources", "tr")
    said = "2026-09.csv 2026-09 2026-11-"
    assert rows == [f"{said}21 1,234 {'0f' * 32}", f"{said}22 1,234 {'1e' * 32}"]
    assert len(report.files) == 3


def test_what_may_be_published_has_nothing_of_the_operator_s() -> None:
    report = make_report(a_known_year())
    operators, public = (text_of(parsed(page)) for page in (report.to_html(), report.to_public_html()))
    for said in (
        "What needs a person",
        "line 1",
        "payment pay_",
        "Purchases and proof",
        "Test mode",
        "alice",
    ):
        assert said in operators
        assert said not in public
    for said in ("scheduled__2026", "s3://exports", "Link to pay", "waits to be paid"):
        assert said not in public
    for said in ("ESRS E1-7", "AB 1305", "By credit", "Restated", "2026-09.csv", "Example Corp"):
        assert said in public


def test_a_table_has_as_many_rows_as_a_browser_can_show_and_says_where_the_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "MOST_ROWS", 3)
    html = html_of(*(a_line(entity=f"e{number}", purchase=number) for number in range(1, 6)))
    for name in ("report.csv", "credits.csv", "report.json"):
        assert f"These are the first 3 of 5 rows; {name} has them all." in html
    assert "e3" in html
    assert ">e4<" not in html


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (a_line(State.PLANNED), "Planned 2026-11-21, no link yet –"),
        (a_line(State.LINK_MADE), "Link to pay since 2026-11-21 –"),
        (a_line(State.PAID, payment_id="p1"), "Paid 2026-11-21, not retired yet payment p1"),
        (a_line(State.DECLINED, reason="Too dear"), "Declined Too dear –"),
        (a_line(State.FAILED, reason="Gone"), "Failed Gone –"),
        (
            a_line(State.PAID_NOT_RETIRED, reason="Sold out", payment_id="p1"),
            "Paid, not retired paid 2026-11-21: Sold out payment p1",
        ),
        (a_line(State.RESTATED, "7"), "Restated 2026-11-21: 7.000 t emitted, nothing to buy –"),
        (
            a_line(State.RESTATED, "0.1", reason="carried over: too little"),
            "Not bought yet 2026-11-21: 0.100 t emitted, carried over: too little –",
        ),
    ],
)
def test_a_row_says_what_became_of_it(line: PurchaseLine, said: str) -> None:
    assert row_of(html_of(line), "purchases", "ml-training").endswith(said)


OPEN = "t are still open: emitted, with no credit retired for them."


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "The ledger has no emissions of October 2026."),
        ([a_line(test_mode=True)], "The ledger has no emissions of October 2026 but rows in test mode."),
        ([a_line()], "Nothing is open."),
        ([a_line(State.RESTATED, "0")], "Nothing is open: nothing was emitted that had to be covered."),
        ([a_line(State.FAILED)], f"10.000 {OPEN}"),
        (
            [
                a_line(State.LINK_MADE),
                a_line(State.PAID, "2", entity="b"),
                a_line(State.PLANNED, "3", entity="c"),
            ],
            f"15.000 {OPEN} 10.000 t have a link that waits to be paid. 2.000 t are paid and not retired yet. "
            "3.000 t are planned and have no link yet.",
        ),
    ],
)
def test_the_page_begins_with_what_is_open(lines: list[PurchaseLine], said: str) -> None:
    (lead,) = [element for element in parsed(html_of(*lines)).iter("p") if element.get("class") == "lead"]
    assert text_of(lead) == said


def test_what_rounding_added_is_told_apart_where_it_is_retired() -> None:
    said = "0.700 t more were retired and are nobody's: credits are sold in steps"
    rounded = {"emitted": "10.3", "rounding_tonnes": Decimal("0.7")}
    assert said in text_of(parsed(html_of(a_line(**rounded))))
    for other in (a_line(State.PAID, **rounded), a_line(test_mode=True, **rounded), a_line()):
        assert "nobody's" not in html_of(other)


def test_test_mode_is_marked_and_apart_and_nothing_there_is_retired() -> None:
    unproven = dict.fromkeys(("certificate_url", "explorer_url", "payment_id"))
    html = html_of(a_line(emitted="7"), a_line(emitted="500", entity="rehearsed", test_mode=True, **unproven))
    before, after = html.split('<section class="test-mode">')
    assert ">rehearsed" not in before
    assert "Test mode: nothing of this is retired" in after
    rehearsed = row_of(html, "purchases", "rehearsed")
    assert rehearsed.endswith("Rehearsed 2026-11-21: nothing happened at any registry –")


def test_what_needs_a_person_is_shown_and_what_is_settled_is_quiet() -> None:
    html = html_of(
        a_line(State.PAID_NOT_RETIRED, payment_id="p1", reason="Sold out", entity="a"),
        a_line(State.DECLINED, reason="Too dear", entity="b"),
        a_line(line=2, entity="b"),
    )
    assert row_of(html, "problems", "a").startswith(
        "a 2026-10 Paid, not retired line 1 10.000 Sold out Payment p1 counts as taken, and nothing is retired for it: ask Carbonmark"
    )
    (settled,) = re.findall(r'<tr class="settled">.*?</tr>', html, re.DOTALL)
    assert "Nothing: other lines cover the month." in settled


def test_a_year_names_the_months_that_it_knows_nothing_of() -> None:
    html = html_of(*(a_line(month=f"2026-{month:02}") for month in range(1, 11)), period="2026")
    assert "The ledger has nothing for November, December." in html
    assert row_of(html, "figures", "March 2026").startswith("March 2026 10.000 10.000 0.000 100.0 %")


def test_a_picture_of_many_entities_says_that_it_shows_the_largest() -> None:
    html = html_of(*(a_line(entity=f"e{number}") for number in range(13)))
    assert "by entity: the 12 of 13 entities that emitted most." in html


def test_pages_charts_and_databases_are_loaded_only_when_one_is_asked_for() -> None:
    code = (
        "import sys; from airflow_provider_carbonmark.reporting import Records, make_report, periods\n"
        "made = make_report(Records(periods.Period('2026'))); made.to_csv(); made.to_json()\n"
        "print(*{'jinja2', 'pygal', 'airflow', 'sqlalchemy', 'yaml'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
