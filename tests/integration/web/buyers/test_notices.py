"""What people read by mail and in Slack, through a mail server and an HTTP server on this machine; the link in it can be paid."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import BaseServer, StreamRequestHandler, TCPServer
from typing import Any

import pytest
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_provider_carbonmark.operators.notices import MAIL_HTML, MAIL_SUBJECT, SLACK_TEXT
from airflow_provider_carbonmark.operators.payment import PARKING
from tests.integration.airflow.model import Airflow, DagRun
from tests.integration.airflow.parts import Told
from tests.integration.web.buyers.parts import RUN_ID, Buyer, Link
from tests.integration.web.buyers.test_pay import TO_PAY
from tests.integration.web.serving import title


class MailServer(StreamRequestHandler):
    """Takes mails (RFC 5321), from anybody."""

    def handle(self) -> None:
        self._say("220 here")
        while command := self.rfile.readline()[:4].upper():
            self._say({b"DATA": "354 go on", b"QUIT": "221 bye"}.get(command, "250 fine"))
            if command == b"DATA":
                mail = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.taken.append(message_from_bytes(mail, EmailMessage, policy=policy.default))
                self._say("250 taken")

    def _say(self, reply: str) -> None:
        self.wfile.write(f"{reply}\r\n".encode())


class SlackServer(BaseHTTPRequestHandler):
    """Takes what is posted."""

    def do_POST(self) -> None:
        posted = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append((self.path, json.loads(posted)))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"ok": true}')

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running(server: BaseServer) -> Iterator[list[Any]]:
    """Serve in a thread while the block runs, and give what was taken."""
    server.taken = []
    with server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server.taken
        server.shutdown()
        thread.join()


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmailMessage]]:
    """The mails that were sent by the connection ``smtp_default``."""
    server = TCPServer(("127.0.0.1", 0), MailServer)
    extra = {"from_email": "airflow@example.com", "disable_ssl": True, "disable_tls": True}
    host, port = server.server_address
    connection = {"conn_type": "smtp", "host": host, "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    with running(server) as taken:
        yield taken


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What was posted to Slack by the connection ``slack_api_default``."""
    server = HTTPServer(("127.0.0.1", 0), SlackServer)
    extra = {"base_url": f"http://127.0.0.1:{server.server_port}/api/"}
    connection = {"conn_type": "slack", "password": "xoxb-1", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(connection))
    with running(server) as taken:
        yield taken


def ask(link: Link, *notifiers: Any) -> None:
    """Await a link's payment, and tell people so."""
    with pytest.raises(PARKING):
        DagRun(Airflow(), RUN_ID).run("payment", checkout=link.checkout, notifiers=list(notifiers))


def mail_to(*people: str) -> SmtpNotifier:
    return SmtpNotifier(to=list(people), subject=MAIL_SUBJECT, html_content=MAIL_HTML)


def page_of(mail: EmailMessage) -> str:
    body = mail.get_body(("html",))
    assert body is not None
    return body.get_content()


def until(link: Link) -> str:
    return (
        f"The payment page can be used until {link.purchase.link.expires_at:%Y-%m-%d %H:%M} UTC; after that, the same link leads to a "
        "new one. To decline, go to Required Actions in Airflow."
    )


def test_a_mail_says_what_is_bought_and_its_link_can_be_paid(
    follow: Callable[..., Link], mails: list[EmailMessage], buyer: Buyer
) -> None:
    link = follow()
    ask(link, mail_to("finance@example.com", "esg@example.com"))

    (mail,) = mails
    assert mail["To"] == "finance@example.com, esg@example.com"
    assert mail["Subject"] == "Pay for 1.234 t CO2e, web, 2026-10"
    said = " ".join(re.sub("<[^>]*>", " ", page_of(mail)).split())
    assert said == (
        f"Amount: 1.234 t CO2e Cost: {link.purchase.cost_usd:f} USD Beneficiary: Example Corp Message: Emissions of October "
        f"Open the payment page {until(link)}"
    )
    (address,) = re.findall('href="(.*)"', page_of(mail))
    page = buyer.go(html.unescape(address))
    assert title(page) == TO_PAY
    buyer.go(buyer.pay(link, buyer.say(link, "pay").headers["location"]))
    assert link.paid_with


def test_slack_gets_the_same(follow: Callable[..., Link], posts: list[tuple[str, dict[str, Any]]]) -> None:
    slack = pytest.importorskip(
        "airflow.providers.slack.notifications.slack", reason="the environment of Airflow's image has it"
    )
    link = follow()
    ask(link, slack.SlackNotifier(channel="#carbon", text=SLACK_TEXT, unfurl_links=False))

    ((path, post),) = posts
    assert (path, post["channel"], post["unfurl_links"]) == ("/api/chat.postMessage", "#carbon", False)
    assert post["text"].splitlines() == [
        "*Pay for 1.234 t CO2e, web, 2026-10*",
        f"Cost: {link.purchase.cost_usd:f} USD",
        "Beneficiary: Example Corp",
        "Message: Emissions of October",
        f"<{link.pay_url}|Open the payment page>",
        until(link),
    ]


def test_what_is_written_in_a_name_is_shown_and_does_nothing(
    make_link: Callable[..., Link],
    mails: list[EmailMessage],
    connect: Callable[..., None],
) -> None:
    connect(environment="test")
    chat = Told(SLACK_TEXT)
    link = make_link(beneficiary_name="A&B <!channel>\nBcc: eve@example.com").ends_at(None)
    ask(link, mail_to("finance@example.com"), chat)

    (mail,), (text,) = mails, chat.told
    assert mail["Subject"] == "Pay for 1.234 t CO2e, A&B <!channel> Bcc: eve@example.com"
    assert mail["Bcc"] is None
    assert "<li>Beneficiary: A&amp;B &lt;!channel&gt;\nBcc: eve@example.com</li>" in page_of(mail)
    assert "Beneficiary: A&amp;B &lt;!channel&gt;\nBcc: eve@example.com\n" in text
    for said in (page_of(mail), text):
        assert "Test mode: nothing is retired" in said
        assert "can be used until" not in said
