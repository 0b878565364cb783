"""The README's nginx example lets buyers come back, and refuses everything else that Airflow's API server would answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airflow_provider_carbonmark.hooks.return_url import Token, sign
from tests.e2e.buyer import THANKS, pay
from tests.e2e.processes import free_ports
from tests.e2e.proxy import NAME, Proxy, Upstream, nginx, upstream

if TYPE_CHECKING:
    from tests.e2e.purchase import Purchase
    from tests.e2e.stand import Stand

pytestmark = pytest.mark.e2e

SHORT = sign(Token(123_456_789_012_345, 1, "carbonmark_default"), b"key")
LONG = sign(Token(123_456_789_012_345, 1, "carbonmark_" * 20), b"key")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Upstream]]:
    with upstream() as stands_in, nginx(tmp_path_factory.mktemp("nginx"), stands_in.port) as running:
        yield running, stands_in


@pytest.fixture
def proxy(shared: tuple[Proxy, Upstream]) -> Proxy:
    return shared[0]


@pytest.fixture
def airflow(shared: tuple[Proxy, Upstream]) -> Upstream:
    shared[1].seen.clear()
    return shared[1]


@pytest.mark.parametrize(
    "path",
    [
        f"/carbonmark/return/{SHORT}/pay_1-A",
        f"/carbonmark/return/{LONG}/pay_1",
        f"/carbonmark/return/{LONG}/pay_1?look=3",
        f"/carbonmark/cancelled/{SHORT}",
        f"/carbonmark/cancelled/{LONG}?from=mail",
        f"/carbonmark/pay/{SHORT}",
    ],
)
def test_a_buyer_comes_through_with_the_address_as_it_was(proxy: Proxy, airflow: Upstream, path: str) -> None:
    assert proxy.ask(path).status == 200
    ((method, arrived, _),) = airflow.seen
    assert (method, arrived) == ("GET", path)


def test_the_form_of_a_pay_address_comes_through_without_an_account(proxy: Proxy, airflow: Upstream) -> None:
    said = {"Cookie": "_token=stolen", "Content-Type": "application/x-www-form-urlencoded"}
    assert proxy.ask(f"/carbonmark/pay/{SHORT}", "POST", headers=said, body="said=pay").status == 200
    ((method, _, headers),) = airflow.seen
    assert (method, headers["content-length"]) == ("POST", "8")
    assert "cookie" not in headers
    assert proxy.ask(f"/carbonmark/pay/{SHORT}", "POST", headers=said, body="x" * 5000).status == 413


def test_a_compressed_token_starts_with_a_dot() -> None:
    assert LONG.startswith(".")
    assert not SHORT.startswith(".")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "/api/v2",
        "/api/v2/dags",
        "/auth/token",
        "/execution/health",
        "/static/index.html",
        "/carbonmark",
        "/carbonmark/",
        "/carbonmark/other",
        "/carbonmark/docs",
        "/carbonmark/return",
        "/carbonmark/return/",
        f"/carbonmark/return/{SHORT}",
        f"/carbonmark/return/{SHORT}/",
        f"/carbonmark/return/{SHORT}/pay_1/",
        f"/carbonmark/return/{SHORT}/pay_1/more",
        f"/carbonmark/return/{SHORT}/pay.1",
        f"/carbonmark/return/{SHORT}//pay_1",
        f"/carbonmark/return/{SHORT}/pay_1%0A",
        f"/carbonmark/return/{SHORT}/pay_1%00",
        f"/carbonmark/cancelled/{SHORT}/more",
        f"/carbonmark/pay/{SHORT}/more",
        "/carbonmark/pay/../../api/v2/dags",
        "/carbonmark/pay/%2e%2e/%2e%2e/api/v2/dags",
        f"/CARBONMARK/return/{SHORT}/pay_1",
        f"//carbonmark/return/{SHORT}/pay_1",
        f"/x/carbonmark/return/{SHORT}/pay_1",
        # What nginx would resolve to something else than the API server, which resolves nothing.
        "/carbonmark/return/../../api/v2/dags",
        "/carbonmark/return/../../api/v2",
        "/carbonmark/return/../x",
        "/carbonmark/return/a.b.c/..",
        "/carbonmark/return/%2e%2e/%2e%2e/api/v2/dags",
        "/carbonmark/return/..%2f..%2fapi%2fv2/dags",
        "/carbonmark/return/..%252f..%252fapi%252fv2/dags",
        "/carbonmark/return/..\\..\\api/v2",
        "/carbonmark/return/..;/..;/api/v2",
        f"/api/v2/dags/../../../carbonmark/return/{SHORT}/pay_1",
        f"/api/v2/%2e%2e/%2e%2e/carbonmark/return/{SHORT}/pay_1",
        f"/api/v2/dags?x=/carbonmark/return/{SHORT}/pay_1",
        f"/api/v2/dags#/carbonmark/return/{SHORT}/pay_1",
        f"/carbonmark%2freturn/{SHORT}/pay_1",
        f"/%63arbonmark/return/{SHORT}/pay_1",
        "http://127.0.0.1/api/v2/dags",
    ],
)
def test_everything_else_is_refused(proxy: Proxy, airflow: Upstream, path: str) -> None:
    assert proxy.ask(path).status in (400, 404)
    assert airflow.seen == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_every_method_but_get_is_refused(proxy: Proxy, airflow: Upstream, method: str) -> None:
    assert proxy.ask(f"/carbonmark/return/{SHORT}/pay_1", method).status in (400, 405)
    assert airflow.seen == []


def test_airflow_learns_who_asked_for_what_name_and_gets_no_account_nor_body(
    proxy: Proxy, airflow: Upstream
) -> None:
    said = {
        "Authorization": "Bearer stolen",
        "Cookie": "_token=stolen",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example.com",
        "Sec-Purpose": "prefetch",
    }
    answer = proxy.ask(f"/carbonmark/cancelled/{SHORT}", headers=said, body="a body")

    ((_, _, headers),) = airflow.seen
    assert headers["host"] == headers["x-forwarded-host"] == NAME
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["sec-purpose"] == "prefetch"
    assert not {"authorization", "cookie", "content-length", "transfer-encoding"} & set(headers)
    assert answer.headers["Set-Cookie"] is None


def test_too_many_requests_are_refused(tmp_path: Path) -> None:
    with upstream() as airflow, nginx(tmp_path, airflow.port) as proxy:
        statuses = [proxy.ask(f"/carbonmark/cancelled/{SHORT}").status for _ in range(100)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses
    assert len(airflow.seen) == statuses.count(200)


def test_no_token_is_logged_even_when_airflow_is_down_or_requests_are_refused(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    with nginx(tmp_path, nobody) as proxy:
        statuses = {proxy.ask(f"/carbonmark/return/{SHORT}/pay_1").status for _ in range(100)}
        proxy.ask(f"/carbonmark/return/{SHORT}/pay_1/more")
        proxy.ask(f"/carbonmark/return/{SHORT}/pay_1", "POST")
    assert statuses == {429, 502}
    assert (tmp_path / "requests.log").exists()
    assert SHORT not in proxy.logs()


def test_a_buyer_comes_back_to_a_real_airflow_behind_it(
    stand: Stand, purchase: Callable[..., Purchase], tmp_path: Path
) -> None:
    bought = purchase().wait_until_parked()
    paid = pay(bought.link, come_back=False)
    with nginx(tmp_path, urlsplit(stand.airflow.url).port or 0) as proxy:
        answer = proxy.ask(urlsplit(paid.url).path)
        assert proxy.ask("/api/v2/monitor/health").status == 404

    assert THANKS in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert bought.expect_certificate() == paid.payment_id
