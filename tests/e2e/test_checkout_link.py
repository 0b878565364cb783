from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.buyer import DECLINED_CARD, PaymentRefused, pay
from tests.e2e.conftest import checkouts_for, only_task
from tests.e2e.stand import CHECKOUT_LINK, CONFIRM_RETIREMENT, Stand

pytestmark = pytest.mark.e2e

LinkConf = Callable[..., dict[str, Any]]


def test_a_cleared_checkout_gives_the_same_link_again(stand: Stand, link_conf: LinkConf) -> None:
    api, conf = stand.airflow.api, link_conf()
    run_id = stand.run(CHECKOUT_LINK, conf)
    first = api.xcom(CHECKOUT_LINK, run_id, "checkout")
    api.clear(CHECKOUT_LINK, run_id, "checkout")
    stand.expect_success(CHECKOUT_LINK, run_id)

    assert only_task(stand, run_id, "checkout")["try_number"] == 2
    assert api.xcom(CHECKOUT_LINK, run_id, "checkout") == first
    assert len(checkouts_for(stand, conf["beneficiary_name"])) == 1


def test_two_runs_of_the_same_purchase_are_two_purchases(stand: Stand, link_conf: LinkConf) -> None:
    conf = link_conf()
    urls = {
        stand.airflow.api.xcom(CHECKOUT_LINK, stand.run(CHECKOUT_LINK, conf), "checkout")["checkout_url"]
        for _ in range(2)
    }

    assert len(urls) == 2


def test_a_declined_card_leaves_the_link_to_be_paid_with_another(stand: Stand, link_conf: LinkConf) -> None:
    run_id = stand.run(CHECKOUT_LINK, link_conf())
    checkout = stand.airflow.api.xcom(CHECKOUT_LINK, run_id, "checkout")

    with pytest.raises(PaymentRefused, match="declined"):
        pay(checkout["checkout_url"], DECLINED_CARD)
    paid = pay(checkout["checkout_url"])
    assert paid.payment_id in paid.page
    confirmation = stand.start_confirmation(paid.payment_id, checkout)
    stand.expect_success(CONFIRM_RETIREMENT, confirmation)

    assert stand.retirement(confirmation)["beneficiary_name"] == checkout["beneficiary_name"]


def test_a_listing_that_is_sold_out_gets_neither_link_nor_retry(stand: Stand, link_conf: LinkConf) -> None:
    conf = link_conf()
    stand.sandbox.control("PATCH", f"listings/{conf['asset_price_source_id']}", {"liquid_supply": 0})
    try:
        run_id = stand.airflow.api.trigger(CHECKOUT_LINK, conf)
        assert stand.airflow.api.wait_for_run(CHECKOUT_LINK, run_id) == "failed"
    finally:
        stand.sandbox.control("PATCH", f"listings/{conf['asset_price_source_id']}", {"liquid_supply": 600})

    quote = only_task(stand, run_id, "quote")
    assert quote["try_number"] == 1
    assert "0.5 t were asked for" in stand.airflow.api.log(CHECKOUT_LINK, run_id, quote)
    assert only_task(stand, run_id, "checkout")["state"] == "upstream_failed"
    assert checkouts_for(stand, conf["beneficiary_name"]) == []
