"""What strangers, other sites and people with bad intentions may send to the pay address: refused, and nothing is written or asked for."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from airflow_provider_carbonmark.hooks.return_url import Token, pay_path, pay_url, sign
from tests.integration.conftest import KEY
from tests.integration.web.buyers.parts import PATIENT, UNKNOWN, buyers, costing_a_hash, everything, send_raw
from tests.integration.web.buyers.test_attacks import HEADERS, MANY, TRICKS, forgeries
from tests.integration.web.buyers.test_pay import CLOSED, IS_IT_PAID, TO_PAY, declined, paid
from tests.integration.web.serving import policy, title

ELSEWHERE = "Please use the button on the page itself"
FORM = {"content-type": "application/x-www-form-urlencoded"}
OURS = {"sec-fetch-site": "same-origin"}
NOBODY_PAID = "said=nobody-paid&link=1"


@pytest.fixture
def expired(link):
    """A link that only waits for somebody to say that nobody paid it."""
    return link.expired()


@pytest.fixture
def untouched(expired, buyer, sandbox):
    """Check that nothing is written, made or asked for, and that the button on the page works after it."""
    before, asked = everything(expired.ledger), len(sandbox.state.requests)
    yield
    assert everything(expired.ledger) == before
    assert len(sandbox.state.requests) == asked
    assert buyer.nobody_paid(expired).headers["location"] == expired.current


# --- forged addresses


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_forged_tokens_get_the_one_answer_that_everybody_gets(expired, buyer, method):
    base, _, token = expired.pay_url.rpartition("/")
    payload, _, signature = token.partition(".")
    others = pay_path(expired.number + 1, expired.ledger.signing_key()).rpartition(".")[2]
    forged = [
        *(
            pay_path(expired.number, key).rpartition("/")[2]
            for key in (b"", b"secret", KEY.encode(), b"\x00" * 32)
        ),
        # That of a return URL is good for nothing here, nor is the other purchase's signature.
        sign(Token(expired.number, 1, "carbonmark_default"), expired.ledger.signing_key()),
        f"{payload}.{others}",
        *(
            f"{payload}.",
            f".{signature}",
            f"{payload}.{signature}x",
            f"{payload}.{signature[:-1]}",
            "a.b",
            ".",
        ),
    ]
    pages = {buyer.browser.request(method, f"{base}/{each}", headers=OURS).text for each in forged}
    assert len(pages) == 1
    assert f"<h1>{UNKNOWN}</h1>" in pages.pop()


def test_a_pay_address_is_good_for_no_return(expired, buyer, addresses):
    token = expired.pay_url.rpartition("/")[2]
    assert buyer.go(f"{addresses}/return/{token}/pay_1").status_code == 404
    assert buyer.go(f"{addresses}/cancelled/{token}").status_code == 404


def test_an_address_of_ours_for_what_the_ledger_does_not_have(expired, buyer, caplog):
    url = expired.pay_url.rpartition("/carbonmark/")[0] + pay_path(4711, expired.ledger.signing_key())
    assert {buyer.go(url).status_code for _ in range(3)} == {404}
    assert [each.levelname for each in caplog.records if "turned away" in each.getMessage()] == ["WARNING"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ten_thousand_forged_requests_cost_a_hash_each_and_leave_nothing(
    expired, buyer, api_server, addresses, sandbox, caplog, monkeypatch, method
):
    api_server.app = buyers.create_app(replace(PATIENT, key_again=3600))
    # The server has the key from its first buyer on.
    buyer.look(expired)
    tokens = forgeries(expired.pay_url.rpartition("/")[2], expired.number, MANY // 2)
    more = {"content": NOBODY_PAID, "headers": OURS | FORM} if method == "POST" else {}
    with costing_a_hash(expired.ledger, sandbox, caplog, monkeypatch):
        for token in tokens:
            assert buyer.browser.request(method, f"{addresses}/pay/{token}", **more).status_code == 404


# --- other sites


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "sent",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "SAME-ORIGIN"},
        {"sec-fetch-site": "cross-site", "origin": "SELF"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "SELF.evil.example"},
        {"origin": "http://evil.example@SELF"},
        {"origin": "https://SELF", "host": "inner:8080"},
        {"referer": "SELF"},
        {},
    ],
    ids=str,
)
def test_a_form_from_elsewhere_is_refused(expired, buyer, sent, api_server):
    sent = {name: value.replace("SELF", api_server.url) for name, value in sent.items()}
    page = buyer.browser.post(expired.pay_url, content=NOBODY_PAID, headers=FORM | sent)
    assert (page.status_code, title(page)) == (403, ELSEWHERE)
    assert expired.pay_url not in page.text


@pytest.mark.parametrize(
    "sent",
    [
        {"sec-fetch-site": "none"},
        {"origin": "SELF"},
        # Through a proxy that names another host than the browser does.
        {"origin": "SELF", "host": "inner:8080"},
        {"origin": "http://offsets.example.com", "host": "inner:8080"},
    ],
    ids=str,
)
def test_a_form_of_the_page_itself_is_taken(expired, buyer, sent, api_server, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CARBONMARK__RETURN_BASE_URL", "http://Offsets.example.com/airflow")
    # As before it was set.
    url = f"{api_server.url}{urlsplit(expired.pay_url).path.removeprefix('/airflow')}"
    sent = {name: value.replace("SELF", api_server.url) for name, value in sent.items()}
    page = buyer.browser.post(url, content=NOBODY_PAID, headers=FORM | sent)
    assert page.headers["location"] == expired.current


# --- bodies, methods


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"&&&===",
        b"said",
        b"said=",
        b"said=NOBODY-PAID&link=1",
        b"said=nobody-paid",
        b"said=nobody-paid&link=",
        b"said=nobody-paid&link=-1",
        b"said=nobody-paid&link=1.0",
        b"said=nobody-paid&link=1000",
        b"said=nobody-paid&link=%C2%B2",
        b"said=nobody-paid&link=%D9%A1",
        b"said=nobody-paid&link=1&link=x",
        b"said=nobody-paid%00&link=1",
        b"said=decline&link=1",
        b'{"said": "nobody-paid", "link": 1}',
        b"--x\r\nContent-Disposition: form-data; name=said\r\n\r\nnobody-paid\r\n--x--",
        b"\xff\xfe\x00s\x00a\x00i\x00d",
        b"\x1f\x8b\x08\x00",
        b"said=nobody-paid&link=1&" + b"x" * 15_000,
        b"said=show",
        b"said=show&text=x.y",
        b"said=look",
        b"a=b&" * 250_000,
    ],
    ids=lambda body: ascii(body)[2:32],
)
def test_what_is_no_form_of_ours_only_shows_the_page(expired, body):
    status, _, text = send_raw(expired.pay_url, "POST", body, OURS | FORM)
    assert status == 200
    assert f"<h1>{IS_IT_PAID}</h1>" in text


@pytest.mark.usefixtures("untouched")
def test_other_methods_do_nothing_and_looking_ahead_is_looking(expired, buyer):
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"):
        assert send_raw(expired.pay_url, method, NOBODY_PAID, OURS | FORM)[0] == 405, method
    for header in ({"sec-purpose": "prefetch;prerender"}, {"purpose": "prefetch"}, {"x-moz": "prefetch"}):
        assert title(buyer.go(expired.pay_url, **header)) == IS_IT_PAID, header


@pytest.mark.usefixtures("untouched")
def test_nothing_lies_beside_it(expired, addresses, buyer):
    for path in ("/pay", "/pay/", "/pay/x", "/pay/x/y", "/pay/{}/", "/pay/{}/x", "/PAY/{}"):
        url = f"{addresses}{path.format(expired.pay_url.rpartition('/')[2])}"
        for page in (buyer.go(url), buyer.browser.post(url, content=NOBODY_PAID, headers=OURS | FORM)):
            assert page.status_code in (404, 405), path
            assert title(page) == UNKNOWN


def test_a_number_with_tricks_asks_nobody(link, buyer, sandbox):
    for trick in ("", "pay 1 2 3", "\x00", "💥", *TRICKS):
        asked = len(sandbox.state.requests)
        page = buyer.paid(link, trick)
        assert (page.status_code, title(page)) == (200, TO_PAY), trick
        assert not [echo for echo in ("alert(1)", "DROP", "jndi", "passwd", ">49<") if echo in page.text]
        if "%" not in trick and trick not in ("@sandbox", "A" * 256):
            # A form that is too long isn't read.
            assert ("That is no payment number." in page.text) is (len(trick) < 10_000), trick
            assert (link.brought, len(sandbox.state.requests)) == ({}, asked), trick


# --- what the pages give away


@pytest.mark.parametrize(
    "become",
    [None, "expired", paid, declined, "unknown", "elsewhere"],
    ids=lambda become: getattr(become, "__name__", str(become)),
)
def test_the_pages_are_locked_down_and_say_nothing_of_the_deployment(link, buyer, become):
    if callable(become):
        become(link)
    elif become == "expired":
        link.expired()
    page = buyer.go(f"{link.pay_url}{'x' if become == 'unknown' else ''}")
    if become == "elsewhere":
        page = buyer.browser.post(link.pay_url, headers={"sec-fetch-site": "cross-site"})
    # Or browsers would not say that a form is from this page.
    assert {name: page.headers[name] for name in HEADERS} == HEADERS | {"referrer-policy": "same-origin"}
    allowed = policy(page)
    # Where it leads may be any payment page, and browsers hold the policy of the form against that too.
    assert allowed.pop("form-action") == "'self' https: http:"
    assert set(allowed.values()) == {"'none'"}
    assert "set-cookie" not in page.headers
    shown = page.text.partition("</style>")[2].lower()
    for word in (
        "<script",
        "http-equiv",
        "src=",
        "airflow",
        "dag",
        "offset",
        "scheduled__",
        str(link.number),
        link.current,
    ):
        assert word not in shown


def test_names_and_messages_are_escaped(make_link, buyer):
    odd = "<img src=x onerror=alert(1)> & Söhne {{ 7*7 }} \u202e"
    link = make_link(beneficiary_name=odd, retirement_message=f"'\"</dd><script>{odd}")
    for page in (buyer.look(link), buyer.say(link.expired(), "pay"), buyer.come_back(link)[1]):
        assert "&lt;img src=x onerror=alert(1)&gt; &amp; Söhne {{ 7*7 }}" in page.text
        assert "<img" not in page.text
        assert "<script" not in page.text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "https://"])
def test_a_payment_page_of_another_kind_is_led_to_by_nobody(link, buyer, url):
    with link.ledger.reading() as connection:
        connection.exec_driver_sql("UPDATE carbonmark_links SET url = ?", (url,))
    page = buyer.say(link, "pay")
    assert (page.status_code, title(page)) == (200, TO_PAY)
    assert url not in page.text


def test_a_declined_purchase_is_made_payable_by_nobody_who_has_its_address(link, buyer, sandbox):
    declined(link.expired())
    before = everything(link.ledger)
    for _ in range(2):
        page = buyer.nobody_paid(link)
        assert title(page) == CLOSED
    assert (everything(link.ledger), len(sandbox.state.checkouts)) == (before, 1)
    assert pay_url(link.ledger, link.number) == link.pay_url
