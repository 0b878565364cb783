from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_carbonmark.ledger.names import State
from tests.e2e.buyer import pay
from tests.e2e.stand import CHECKOUT_LINK, CONFIRM_RETIREMENT, Stand

pytestmark = pytest.mark.e2e

LinkConf = Callable[..., dict[str, Any]]


def test_a_link_is_paid_and_its_retirement_confirmed_by_the_run_that_is_given_the_payment(
    stand: Stand, link_conf: LinkConf
) -> None:
    run_id = stand.run(CHECKOUT_LINK, link_conf())
    checkout = stand.airflow.api.xcom(CHECKOUT_LINK, run_id, "checkout")
    paid = pay(checkout["checkout_url"])
    assert paid.payment_id in paid.page
    confirmation = stand.start_confirmation(paid.payment_id, checkout)
    stand.expect_success(CONFIRM_RETIREMENT, confirmation)

    assert stand.retirement(confirmation)["beneficiary_name"] == checkout["beneficiary_name"]
    assert stand.ledger.purchase(checkout["purchase"]).state is State.RETIRED
