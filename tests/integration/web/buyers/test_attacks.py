"""What strangers, and buyers with bad intentions, may send: refused, without a trace, and without saying why."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from airflow_provider_carbonmark.hooks.return_url import Token, pay_path, sign
from tests.integration.conftest import KEY
from tests.integration.web.buyers.parts import (
    PAID_PAGE,
    PATIENT,
    UNKNOWN,
    WaitingTask,
    buyers,
    costing_a_hash,
    everything,
    id_of,
    send_raw,
)
from tests.integration.web.serving import policy, title

MANY = 10_000
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
}


@pytest.fixture
def paid(link, buyer):
    """A link that is paid and waited for, whose buyer hasn't come back yet: base address, token, payment id."""
    WaitingTask(link).ask().park()
    base, token, payment_id = buyer.pay(link).rsplit("/", 2)
    return base, token, payment_id


@pytest.fixture
def untouched(paid, link, buyer):
    """Check that a request changes nothing, and that the buyer's own return still works after it."""
    base, token, payment_id = paid
    before = everything(link.ledger)
    yield
    assert everything(link.ledger) == before
    assert title(buyer.go(f"{base}/{token}/{payment_id}")) == PAID_PAGE


@pytest.fixture
def refused(buyer):
    """Return a function that expects the one answer that everybody gets, to the letter."""
    answers = set()

    def refused(url: str, **headers: str):
        page = buyer.go(url, **headers)
        assert (page.status_code, title(page)) == (404, UNKNOWN), url
        answers.add((page.text, tuple(sorted((n, v) for n, v in page.headers.items() if n != "date"))))
        assert len(answers) == 1
        return page

    return refused


def token_for(made, **changes) -> str:
    """Return a token that the ledger's key signs; what no task of ours would let it sign, where something is changed."""
    token = {"purchase": made.number, "link": 1, "conn_id": "carbonmark_default"} | changes
    return sign(Token(**token), made.ledger.signing_key())


@pytest.mark.usefixtures("untouched")
def test_forged_tokens(paid, link, refused):
    base, token, payment_id = paid
    mine = Token(link.number, 1, "carbonmark_default")
    for key in (b"", b"secret", KEY.encode(), b"cm_api_", b"\x00" * 32):
        refused(f"{base}/{sign(mine, key)}/{payment_id}")
    payload, signature = token.rsplit(".", 1)
    for forged in (f"{payload}.", f"..{signature}", f".{signature}", "a.b", "a.b.c", "..", "none"):
        refused(f"{base}/{forged}/{payment_id}")


@pytest.mark.usefixtures("untouched")
def test_a_token_of_ours_for_a_link_that_was_never_made(paid, link, refused, connect):
    base, _, payment_id = paid
    connect(conn_id="other")
    for wrong in ({"conn_id": "other"}, {"conn_id": ""}, {"link": 2}, {"link": 0}, {"purchase": 1}):
        refused(f"{base}/{token_for(link, **wrong)}/{payment_id}")


def test_somebody_else_s_payment(make_link, buyer, refused):
    link = make_link(0)
    others = [make_link(1, quantity_tonnes="1.235"), make_link(2, beneficiary_name="Somebody Else")]
    base = buyer.pay(link).rpartition("/")[0]
    theirs = [id_of(buyer.pay(other)) for other in others]
    before = everything(link.ledger)
    for payment_id in theirs:
        refused(f"{base}/{payment_id}")
    assert everything(link.ledger) == before


TRICKS = [
    ".",
    "..",
    "../..",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2f",
    "%2e%2e",
    "pay_1%00",
    "pay_1%0d%0aSet-Cookie:x=1",
    "'; DROP TABLE xcom; --",
    "1 OR 1=1",
    '"><script>alert(1)</script>',
    "{{7*7}}",
    "${jndi:ldap://x}",
    "pay_１",
    "pаy_1",
    "pay_1\u202e",
    "pay_1\u200b",
    "\ud7ff\uffff",
    "%c0%ae%c0%ae",
    "%ff%fe",
    "pay_1/extra",
    "pay_1/",
    "/pay_1",
    "@sandbox",
    "http:%2f%2fevil.example",
    "A" * 256,
    "A" * 60_000,
    " ",
    "+",
    "pay_1\\..\\x",
]


@pytest.mark.usefixtures("untouched")
def test_payment_ids_with_tricks(paid, sandbox):
    base, token, _ = paid
    asked = len(sandbox.state.requests)
    for trick in TRICKS:
        status, headers, body = send_raw(f"{base}/{token}/{quote(trick, safe=SAFE)}")
        assert status in (404, 400), trick  # 400: too long for the HTTP server itself
        # A line break matches no address, so the request never reaches the app.
        if status == 404 and "%0a" not in trick:
            assert f"<h1>{UNKNOWN}</h1>" in body
            assert all(headers[name] == value for name, value in HEADERS.items())
        assert "set-cookie" not in headers
        assert not [echo for echo in ("alert(1)", "DROP", "49", "jndi", "passwd") if echo in body]
    assert len(sandbox.state.requests) == asked


SAFE = "%/?#@:+&=$"


@pytest.mark.usefixtures("untouched")
def test_other_methods_and_looking_ahead_do_nothing(paid, buyer, sandbox):
    url = "/".join(paid)
    asked = len(sandbox.state.requests)
    for method in ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"):
        status, headers, body = send_raw(url, method)
        assert status == 405, method
        assert method != "HEAD" or body == ""
        assert headers["cache-control"] == "no-store"
    for header in ("Purpose: prefetch", "Sec-Purpose: prefetch", "X-Moz: prefetch", "X-Purpose: preview"):
        for more in ("", ";prerender"):
            name, _, value = header.partition(": ")
            page = buyer.go(url, **{name: value + more})
            assert (page.status_code, page.text) == (503, ""), (header, more)
            assert page.headers["cache-control"] == "no-store"
    assert len(sandbox.state.requests) == asked


@pytest.mark.usefixtures("untouched")
def test_nothing_else_is_served(addresses, refused):
    for path in (
        "",
        "docs",
        "redoc",
        "openapi.json",
        "return",
        "return/x",
        "cancelled",
        "cancelled/x",
        "static/x",
    ):
        assert "fastapi" not in refused(f"{addresses}/{path}").text.lower()


@pytest.mark.parametrize("address", ["return/{}/x", "cancelled/{}"])
def test_the_pages_are_locked_down(link, buyer, addresses, address):
    known = buyer.go(f"{addresses}/{address.format(token_for(link))}")
    unknown = buyer.go(f"{addresses}/{address.format('x')}")
    for page in (known, unknown):
        assert all(page.headers[name] == value for name, value in HEADERS.items())
        assert set(policy(page).values()) == {"'none'"}
        assert "set-cookie" not in page.headers
        for word in ("<script", "http-equiv", "src=", "airflow", "dag", "offset", "scheduled__"):
            assert word not in page.text.partition("</style>")[2].lower()


def forgeries(known: str, number: int, count: int) -> Iterator[str]:
    """Make up tokens of all kinds, out of one that is good and for the same purchase."""
    rng = random.Random(11)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    connections = ["carbonmark_default", "nowhere", "../x", "a b", "x" * 100, "é", "%s", "'; --"]
    kinds = (
        lambda: "".join(rng.choices(letters, k=rng.randint(1, 300))),
        lambda: "".join(rng.sample(known, len(known))),
        lambda: known[: rng.randrange(len(known))] + "".join(rng.choices(letters, k=5)),
        lambda: pay_path(number, rng.randbytes(32)).rpartition("/")[2],
        lambda: sign(Token(number, 1, rng.choice(connections)), rng.randbytes(32)),
    )
    return (rng.choice(kinds)() for _ in range(count))


def test_ten_thousand_forged_requests_cost_a_hash_each_and_leave_nothing(
    link, buyer, api_server, addresses, sandbox, caplog, monkeypatch
):
    # Once a minute, a signature that doesn't hold lets the key be read again; see the tests of the key.
    api_server.app = buyers.create_app(replace(PATIENT, key_again=3600))
    tokens = forgeries(token_for(link), link.number, MANY)
    # The server has the key from its first buyer on.
    buyer.leave(link)
    with costing_a_hash(link.ledger, sandbox, caplog, monkeypatch):
        for number, token in enumerate(tokens):
            address = f"return/{token}/pay_{number % 1000}" if number % 10 < 7 else f"cancelled/{token}"
            assert buyer.go(f"{addresses}/{address}").status_code == 404
