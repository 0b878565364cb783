"""What the page says, where it leads, and that nothing anybody wrote into the ledger becomes more than text."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from airflow_provider_carbonmark.ledger import Ledger
from airflow_provider_carbonmark.ledger.changes.bringing import Meaning
from airflow_provider_carbonmark.ledger.names import Run, Source, State, Task
from airflow_provider_carbonmark.ledger.purchase import Order
from airflow_provider_carbonmark.web.views import MOST_ROWS, MOST_TO_PAY
from tests.integration.web.readers.parts import know_dags, links, words
from tests.integration.web.serving import policy, title
from tests.unit.ledger.rows import a_line, planned_by
from tests.unit.reporting.sample import RUN, a_year


def test_the_newest_year_comes_first_with_its_figures_and_the_way_to_its_months(fill, reader):
    fill(*a_year(), a_line(entity="older", month="2024-12"))
    page = reader().may_read()
    assert "<h1>Carbon offsets, 2026</h1>" in page
    assert {f"?month=2026-{month:02}" for month in range(1, 11)} <= set(links(page))
    assert {"?year=2026", "?year=2024", "?test=1"} <= set(links(page))
    assert page.count("data:image/svg+xml;base64,") >= 2
    assert "September 2026 229.62271344 214.131" in words(page)
    assert "<h1>Carbon offsets, 2024</h1>" in reader().may_read("?year=2024")


def test_a_month_shows_each_row_in_words_a_person_understands(fill, reader):
    fill(*a_year())
    said = words(reader().may_read("?month=2026-10"))
    for state in (
        "To be paid since 2026-11-21",
        "Paid 2026-11-21, not retired yet",
        "Planned 2026-11-21, no link to pay yet",
        "Declined Declined by alice: not before the budget is settled",
        "Retired 2026-11-21",
        "TVER-0044 , 2020 registry TVER",
    ):
        assert state in said
    failed = words(reader().may_read("?month=2026-09"))
    assert "Paid, but not retired paid 2026-10-22. Payment" in failed
    assert "ask Carbonmark for the money back" in failed
    assert "The tonnes are open again, and the next plan of the month buys what is missing." in failed
    assert "Failed The run that planned it ended before it made a link" in failed
    assert "39.100 t emitted, nothing to buy" in words(reader().may_read("?month=2026-08"))


def test_what_is_to_be_paid_stands_on_top_of_the_year_whatever_its_month(fill, reader):
    fill(planned_by("offset", "late", state=State.LINK_MADE, month="2024-02"), planned_by("offset", "done"))
    page = reader().may_read()
    assert page.index("Payments to be made") < page.index("Emitted")
    (pay,) = (link for link in links(page) if "/pay/" in link)
    assert pay.startswith("../carbonmark/pay/")
    assert "Payments to be made" not in reader().may_read("?month=2026-10")
    assert "Payments to be made" in reader().may_read("?month=2024-02")


@pytest.fixture
def bought_alone(ledger):
    """Let tasks order without a plan, by the names of their DAGs, and return their purchases."""

    def bought_alone(*dag_ids, test_mode=False):
        books, now = Ledger(ledger), datetime.now(UTC)
        know_dags(set(dag_ids))
        return [
            books.order(
                Task(Run(dag_id, "manual"), "checkout", -1),
                Order("listing-1", Decimal("1.5"), f"For {dag_id}", "Thanks"),
                test_mode=test_mode,
                now=now,
            )
            for dag_id in dag_ids
        ]

    return bought_alone


@pytest.mark.parametrize("test_mode", [False, True])
def test_what_no_plan_made_is_a_list_of_its_own_which_comes_first_where_there_is_nothing_else(
    fill, reader, bought_alone, test_mode
):
    one, other = bought_alone("sales_a", "web_b", test_mode=test_mode)
    page = reader().may_read()
    assert "No link asked for on" in words(page)
    assert ("Test mode: nothing" in page) is test_mode
    assert f"purchase {one.id}" in page
    assert f"purchase {other.id}" in page
    assert f"purchase {one.id}" not in reader("web").may_read()
    fill(planned_by("offset"))
    know_dags({"offset", "sales_a", "web_b"})
    assert "?plan=none" in links(reader().may_read())
    said = words(reader().may_read("?plan=none&test=1" if test_mode else "?plan=none"))
    assert "1.500 – – For sales_a" in said


def test_what_was_paid_twice_is_told_with_both_payments(fill, reader, ledger):
    line = planned_by("offset", payment_id="pay_1", checkout_url="https://pay.example/1")
    fill(line)
    assert "Paid twice" not in reader().may_read()
    brought = Ledger(ledger).bring(
        line.purchase, 1, "pay_2", source=Source.RETURNED, verified=True, now=line.planned_at
    )
    assert brought.meaning is Meaning.SECOND
    for query in ("", "?month=2026-10"):
        text = words(reader().may_read(query))
        assert f"Purchase {line.purchase}: pay_1 counts" in text
        assert "and pay_2 came besides" in text


def test_a_row_leads_to_its_run_its_certificate_and_its_transaction(fill, reader):
    run = Run("offset", "scheduled__2026-11-21T06:00:00+00:00", RUN.deployment)
    line = planned_by("offset", run=run, handler=replace(run, run_id="manual/2 ?#%"))
    fill(line)
    page = reader().may_read("?month=2026-10")
    found = links(page)
    # The number that messages and logs name.
    assert f"purchase {line.purchase}" in words(page)
    assert "../dags/offset/runs/manual%2F2%20%3F%23%25" in found
    assert f"../dags/offset/runs/{quote(run.run_id)}" in found
    assert {line.certificate_url, line.explorer_url} <= set(found)


@pytest.mark.parametrize(("name", "said"), [("europe", "of europe"), ("", "of an Airflow without a name")])
def test_a_run_of_another_airflow_is_named_and_leads_nowhere_here(fill, reader, name, said):
    fill(planned_by("offset", run=Run("offset", "theirs", name), handler=Run("offset", "theirs too", name)))
    page = reader().may_read("?month=2026-10")
    assert f"theirs too {said}" in words(page)
    assert not [link for link in links(page) if "/runs/" in link]


def test_what_leads_elsewhere_opens_in_a_tab_of_its_own_and_tells_nobody_where_it_came_from(fill, reader):
    fill(*a_year())
    page = reader().may_read("?month=2026-09")
    outwards = re.findall(r'<a href="https?:[^>]*>', page)
    assert len(outwards) > 5
    assert all('target="_blank" rel="noopener noreferrer"' in link for link in outwards)


def test_test_mode_is_apart_and_counts_for_nothing(fill, reader):
    real = planned_by("offset", "shop", emitted="10")
    rehearsal = planned_by("offset", "shop", emitted="777", test_mode=True, line=2)
    due = planned_by("offset", "lab", emitted="888", test_mode=True, state=State.LINK_MADE)
    failed = planned_by(
        "offset", "van", emitted="3", test_mode=True, state=State.PAID_NOT_RETIRED, payment_id="p1"
    )
    fill(real, rehearsal, due, failed)
    for query in ("", "?month=2026-10"):
        page = reader().may_read(query)
        assert "777" not in words(page)
        assert "Payments to be made" not in page
        assert "?test=1" in links(page)
    said = words(reader().may_read("?test=1"))
    assert "Test mode: nothing of this is retired." in said
    assert "Retired, as a rehearsal" in said
    # Nobody is to be asked for money that was never paid.
    assert "Paid, but not retired" in said
    assert "ask Carbonmark" not in said
    assert "777.000" in said
    assert "Emitted" not in said.partition("You see what")[0]
    assert "10.000" not in said


NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</style></title></bdi></table>",
    "<!-- ",
    "&lt;b&gt;",
    "\u202egnp.exe",
    "]]>",
]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_what_others_wrote_is_text_everywhere(fill, reader, text):
    names = (
        *("entity", "beneficiary_name", "retirement_message", "reason", "project_id", "registry"),
        *("checkout_url", "certificate_url", "explorer_url", "transaction_hash"),
    )
    runs = {"run": Run("offset", text), "handler": Run("offset", f"{text}2")}
    written = dict.fromkeys(names, text) | runs
    states = (State.PAID_NOT_RETIRED, State.LINK_MADE, State.RETIRED)
    lines = [
        a_line(state, line=number, payment_id=f"{text}{number}", **written)
        for number, state in enumerate(states)
    ]
    rehearsal = a_line(test_mode=True, **written | {"payment_id": text})
    fill(*lines, rehearsal)
    for query in ("", "?month=2026-10", "?test=1"):
        page = reader().may_read(query)
        body = page.partition("</head>")[2]
        # Jinja's own way to write it; as often as it is shown, and never as it came.
        escaped = text.translate({38: "&amp;", 60: "&lt;", 62: "&gt;", 34: "&#34;", 39: "&#39;"})
        assert escaped in body
        if escaped != text:
            assert text not in body
        tags = set(re.findall(r"<\s*([a-zA-Z!]+)", body))
        assert not tags & {"script", "svg", "iframe", "object", "form", "style", "b", "!"}
        assert not re.search(r"<[^>]*\son\w+\s*=", body)
        assert body.count("<img") == page.count('<img src="data:image/svg+xml;base64,')


def test_only_web_addresses_become_links(fill, reader):
    for url in ("javascript:alert(1)", "//evil.example/x", "https://user:pass@evil.example/"):
        fill(planned_by("offset", certificate_url=url, explorer_url=url))
    page = reader().may_read("?month=2026-10")
    assert [link for link in links(page) if not link.startswith(("?", "../"))] == []
    assert page.count("not a web address") >= 3


def test_an_address_that_is_none_is_refused_without_repeating_it(fill, reader):
    fill(planned_by("offset", "shop"))
    months = ("2026-13", "2026-00", "2026-1", "", "2026-10%0a", "%EF%BC%92026-10", "2026-10&month=2026-09")
    years = ("26", "x", "2026'--", "<script>alert(1)</script>", "2026&month=2026-10", "2026&test=1")
    for query in (
        *(f"?month={month}" for month in months),
        *(f"?year={year}" for year in years),
        *(f"?test={test}" for test in ("yes", "true", "0")),
        *(f"?part={part}" for part in ("0", "-1", "1e3", "10000", "9" * 5000)),
    ):
        page = reader().get(query)
        assert (page.status_code, title(page)) == (400, "There is no such page"), query
        assert "script" not in page.text
        assert "shop" not in page.text


def test_a_year_or_part_that_has_nothing_says_so(fill, reader):
    fill(planned_by("offset"))
    assert "nothing for 1999" in reader().may_read("?year=1999")
    assert "nothing for March 1999" in reader().may_read("?month=1999-03")
    for query in ("?year=2026&part=9999", "?month=2026-10&part=2"):
        page = reader().may_read(query)
        assert "This part of the table is empty" in page
        assert 'rel="prev"' in page
        assert 'rel="next"' not in page


def test_pages_are_bounded_however_much_there_is(fill, reader):
    lines = [
        planned_by("offset", f"entity-{number:04}", state=State.LINK_MADE, emitted="1", quantity="1")
        for number in range(2 * MOST_ROWS + 50)
    ]
    fill(*lines)
    statements: list[str] = []

    def count(connection, cursor, statement, *rest):
        if "carbonmark_purchases" in statement:
            statements.append(statement)

    seen: set[str] = set()
    event.listen(Engine, "before_cursor_execute", count)
    try:
        for part, expected in ((1, MOST_ROWS), (2, MOST_ROWS), (3, 50)):
            for kind, cell in (
                ("year=2026", r'<th scope="row"><bdi>(entity-\d{4})'),
                ("month=2026-10", r"<div><bdi>(entity-\d{4})"),
            ):
                statements.clear()
                page = reader().may_read(f"?{kind}&part={part}")
                shown = set(re.findall(cell, page.rpartition("<h2>")[2]))
                assert len(shown) == expected
                assert ('rel="next"' in page) == (part < 3)
                assert page.count("carbonmark/pay/") <= 2 * MOST_TO_PAY + MOST_ROWS
                assert f"more than these {MOST_TO_PAY}" in page
                assert "450.000" in page  # the sums are of everything
                assert len(statements) <= 7
                seen |= shown
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert len(seen) == len(lines)


def test_the_pages_are_locked_down(fill, reader, stranger):
    fill(*a_year())
    for page in (
        reader().get(),
        reader().get("?month=2026-10"),
        reader().get("?test=1"),
        reader().get("?month=x"),
        reader(role=None).get(),
        stranger.get(),
        reader().get(path="/carbonmark-offsets/x"),
    ):
        nothing = ("default-src", "base-uri", "form-action", "frame-ancestors")
        assert policy(page) == dict.fromkeys(nothing, "'none'") | {"img-src": "data:"}
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for word in ("<script", "http-equiv", "<link", "<iframe", "<form", "@import", "url("):
            assert word not in page.text.lower()
