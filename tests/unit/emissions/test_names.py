from __future__ import annotations

import pytest

from airflow_provider_carbonmark.emissions import EmissionsColumns, emissions_of_month
from airflow_provider_carbonmark.emissions.sums import stated_emissions


@pytest.mark.parametrize(
    "spelled", ["Zu\u0308rich Lab", "Zürich\u00a0Lab", "\u200bZürich  Lab\ufeff", "Zürich\u2009Lab "]
)
def test_an_entity_has_one_name_however_it_is_encoded(spelled: str) -> None:
    rows = [
        {"month": "2026-10", "entity": entity, "amount": amount}
        for entity, amount in (("Zürich Lab", 1), (spelled, 2))
    ]
    columns = EmissionsColumns(period="month", entity="entity", amount="amount", unit="t")
    (found,) = emissions_of_month(rows, columns, "2026-10")
    assert (found.entity, found.emitted_tonnes) == ("Zürich Lab", 3)
    (stated,) = stated_emissions([{"entity": spelled, "month": "2026-10", "emitted_tonnes": "1"}])
    assert stated.entity == "Zürich Lab"
