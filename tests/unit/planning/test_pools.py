"""How what is bought together is shared out; that the shares add up is shown in `test_plan_properties`."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_carbonmark.ledger.values import Coverage, Need
from airflow_provider_carbonmark.planning import Limits, plan_purchases
from airflow_provider_carbonmark.planning.dedication import Dedication
from tests.unit.planning.market import NOW, offer


@pytest.mark.parametrize(
    ("limits", "shares"),
    [
        # Many entities and many listings make few shares.
        (Limits(), [["8", "2"], ["6"]]),
        # Within each limit only if the cheap tonnes are everybody's.
        (Limits(max_cost_per_entity_usd=Decimal(35)), [["5", "5"], ["3", "3"]]),
    ],
)
def test_one_need_is_filled_after_the_other_but_all_alike_where_entities_have_a_limit(limits, shares):
    plan = plan_purchases(
        [],
        Coverage(abandoned=[Need(entity, "2026-10", Decimal(8), Decimal(8)) for entity in "ab"]),
        [offer("cheap", "1", "10"), offer("dear", "10", "99")],
        dedication=Dedication("Example Corp", "Emissions of {months}"),
        limits=limits,
        now=NOW,
    )
    assert [[f"{share.quantity_tonnes:f}" for share in one.shares] for one in plan.purchases] == shares
