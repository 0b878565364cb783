"""Every page that there is, in each of its variants, and with the worst that others may have written into it."""

from __future__ import annotations

import asyncio
import base64
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from unittest.mock import AsyncMock
from xml.etree import ElementTree

import httpx
import pytest
from sqlalchemy import StaticPool, create_engine
from starlette.datastructures import QueryParams

from airflow_provider_carbonmark.ledger.names import Run, State, Task
from airflow_provider_carbonmark.ledger.projects import Project
from airflow_provider_carbonmark.ledger.purchase import Link, Purchase, PurchaseLine
from airflow_provider_carbonmark.ledger.words import Words
from airflow_provider_carbonmark.reporting import make_report
from airflow_provider_carbonmark.reporting.periods import Period
from airflow_provider_carbonmark.sandbox import SandboxServer
from airflow_provider_carbonmark.sandbox.pages import TEMPLATES
from airflow_provider_carbonmark.web import pages
from airflow_provider_carbonmark.web.views import MOST_ROWS, View, Wanted, view
from tests.integration.sandbox.conftest import Shopper
from tests.unit.ledger.rows import planned_by, write
from tests.unit.reporting.sample import NASTY, PLANNED_AT, REPORTS, RUN, a_line, a_year, the_nasty

with warnings.catch_warnings():
    # What Airflow's API warns of itself while it is being imported differs from version to version.
    warnings.simplefilter("ignore")
    from airflow_provider_carbonmark.web.buyers.app import MAX_LOOKS, create_app
    from airflow_provider_carbonmark.web.buyers.paying import PayVisits, Sight, Stands
    from airflow_provider_carbonmark.web.buyers.visits import Page, Visit, Visits

WORST = (
    f"\x00\x0b\x85\ufdd0\ufffe\U0010ffff {NASTY} </style></title></bdi></table>-->]]><!-- \r\n\t" + "x" * 300
)
WORST_ADDRESS = "https://example.com/\"'<|>%zz?a=1&b=[\"'<{^`}>]&amp;#a#<é>"

KEY = bytes(32)


def worst_lines(**changes: object) -> list[PurchaseLine]:
    """Return a row in each state."""
    texts = ("entity", "beneficiary_name", "retirement_message", "reason", "project_id", "registry")
    written = dict.fromkeys((*texts, "transaction_hash", "explorer_url"), WORST) | {
        "checkout_url": WORST_ADDRESS,
        "certificate_url": WORST_ADDRESS,
        "run": Run(WORST, WORST),
        "handler": Run(WORST, f"{WORST}2"),
    }
    return [
        a_line(state, line=number, payment_id=f"{WORST}{number}{changes}", **written | changes)
        for number, state in enumerate(State, 1)
    ]


def reports() -> Iterator[str]:
    worst = the_nasty(WORST, WORST_ADDRESS)
    for records in (*REPORTS.values(), worst, replace(worst, period=Period("2026"))):
        report = make_report(records)
        yield report.to_html()
        yield report.to_public_html()


def ledger_pages() -> Iterator[str]:
    many = [planned_by(RUN.dag_id, month="2024-01", state=State.LINK_MADE) for _ in range(MOST_ROWS + 1)]
    worst = worst_lines(month="2025-01") + worst_lines(month="2025-01", test_mode=True)
    queries = (
        *("", "year=2024", "year=2024&part=2", "year=2025", "year=1999"),
        *("month=2026-08", "month=2026-09", "month=2026-10", "month=2025-01", "month=1999-01"),
        *("month=2024-01", "month=2024-01&part=2", "month=2024-01&part=3"),
        *("test=1", "test=1&month=2025-01"),
    )
    engine = create_engine("sqlite://", poolclass=StaticPool)
    write(engine, [*a_year(), *many, *worst])
    with engine.connect() as connection:
        for query in queries:
            shown = view(connection, Wanted.of(QueryParams(query)), {RUN.dag_id, WORST})
            yield pages.ledger(shown, RUN.deployment, KEY)
    engine.dispose()
    for wanted in (Wanted(), Wanted(test_mode=True)):
        yield pages.ledger(view(None, wanted, {RUN.dag_id}), RUN.deployment, None)
    alone = [
        a_purchase(WORST_ADDRESS, test_mode=True),
        replace(a_purchase("", test_mode=False), cost_usd=Decimal(2)),
    ]
    for bought in ([], alone):
        yield pages.ledger(View(Wanted(without_plan=True), without_plan=bought), RUN.deployment, KEY)
    yield pages.message("There is no such page", "The ledger has one address only.")
    yield pages.please_sign_in(WORST_ADDRESS)


def a_purchase(url: str, *, test_mode: bool) -> Purchase:
    """Return a purchase with a link that nobody has paid."""
    link = Link(
        number=1,
        url=url,
        request={},
        idempotency_key="a key",
        conn_id="carbonmark_default",
        made_by=Task(RUN, "checkout", -1),
        asked_at=PLANNED_AT,
    )
    return Purchase(
        id=1,
        ledger="a ledger",
        test_mode=test_mode,
        asset_price_source_id=WORST,
        quantity_tonnes=Decimal("1.234"),
        beneficiary_name=WORST,
        retirement_message=WORST,
        state=State.LINK_MADE,
        planned_at=PLANNED_AT,
        run=RUN,
        handler=RUN,
        handled_since=PLANNED_AT,
        link=link,
    )


def browser(language: str) -> httpx.AsyncClient:
    airflow = httpx.ASGITransport(create_app())
    preferred = {"accept-language": language}
    return httpx.AsyncClient(transport=airflow, base_url="http://airflow.test", headers=preferred)


async def return_pages(language: str = "en") -> list[str]:
    rehearsal = a_purchase(WORST_ADDRESS, test_mode=True)
    real = a_purchase("javascript:alert(1)", test_mode=False)
    all_pages = [page for page in Page if page is not Page.PAY]
    seen = [Visit(page, about) for page in all_pages for about in (None, rehearsal, real)]
    seen += [Visit(page, real, recorded=True, told=told) for page in all_pages for told in (True, False)]
    shown = []
    async with browser(language) as buyer:
        with pytest.MonkeyPatch.context() as patch:
            for visit in seen:
                patch.setattr(Visits, "returned", AsyncMock(return_value=visit))
                for looks in (0, MAX_LOOKS):
                    page = await buyer.get(f"/return/token/pay_1?look={looks}")
                    shown.append(page.text)
    return shown


async def pay_pages(language: str = "en") -> list[str]:
    project = Project(project_id=NASTY, name=NASTY, country=NASTY, url=WORST_ADDRESS, read_at=PLANNED_AT)
    linked = a_purchase(WORST_ADDRESS, test_mode=True)
    assert linked.link
    open = replace(
        linked,
        link=replace(linked.link, expires_at=PLANNED_AT),
        project_id=NASTY,
        vintage=2020,
        registry=NASTY,
        cost_usd=Decimal("12.3456"),
        certificate_url=WORST_ADDRESS,
    )
    doubt = Words(
        "Payment %(payment_id)s was brought for it on %(time)s, and nobody can say yet whether it is for this. Ask Carbonmark what it is for.",
        payment_id=NASTY,
        time=PLANNED_AT,
    )
    seen = [
        Sight(purchase, told, stands, word)
        for stands in Stands
        for purchase, told, word in ((open, project, doubt), (replace(open, test_mode=False), None, None))
    ]
    shown = []
    async with browser(language) as buyer:
        with pytest.MonkeyPatch.context() as patch:
            for sight in seen:
                patch.setattr(PayVisits, "look", AsyncMock(return_value=sight))
                shown.append((await buyer.get("/pay/token")).text)
    return shown


def sandbox_pages() -> Iterator[str]:
    with SandboxServer(retirement_seconds=0) as server:
        shopper = Shopper(server.url)
        with shopper.http as http:
            url = shopper.open_checkout(
                metadata={"beneficiary_name": NASTY, "retirement_message": f"{NASTY}\n\t<!--"}
            )
            yield http.get("/").text
            yield http.get(url).text
            yield http.post(url, data={"card_number": "1"}).text
            payment_id = shopper.pay(url)
            yield http.get(url).text
            yield http.get(f"/returned/{payment_id}").text
            retirement = shopper.payment(payment_id)["retirement"]
            yield http.get(retirement["view_retirement_url"]).text
            yield http.get(retirement["on_chain_explorer_url"]).text
            yield http.get("/cancelled").text
            yield http.get("/pay/unknown").text


def drawings(pages: list[str]) -> dict[str, str]:
    """Return the drawings within pages, and their styles, which the validator passes over in a drawing, each by a name for a file."""
    encoded = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", "".join(pages))
    found = {}
    for number, drawing in enumerate(base64.b64decode(each).decode() for each in dict.fromkeys(encoded)):
        found[f"drawing-{number}.svg"] = drawing
        styles = ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}style")
        found[f"drawing-{number}.css"] = "\n".join(style.text or "" for style in styles)
    return found


def everything() -> dict[str, str]:
    """Return all that a browser may get to see of ours, by names for files."""
    kinds = {
        "report": list(reports()),
        "ledger": list(ledger_pages()),
        "return": asyncio.run(return_pages()),
        "pay": asyncio.run(pay_pages()),
        "pay-de": asyncio.run(pay_pages("de")),
        "sandbox": list(sandbox_pages()),
    }
    named = {
        f"{kind}-{number}.html": page for kind, shown in kinds.items() for number, page in enumerate(shown)
    }
    return named | drawings(list(named.values())) | {"sandbox.css": (TEMPLATES / "style.css").read_text()}
