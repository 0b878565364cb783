"""
Which columns of an emissions table matter, and in which unit its amounts are.

The columns and units of the ready-made sources are those that CodeCarbon's ``emissions.csv``, Google Cloud's Carbon
Footprint export and AWS's carbon emissions data export are documented to have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown

_CARBON_DIOXIDE = re.compile(r"co[2₂](-?eq?)?$", re.IGNORECASE)
_TONNES_PER_UNIT = {
    **dict.fromkeys(("g", "gram", "grams"), Decimal("0.000001")),
    **dict.fromkeys(("kg", "kilogram", "kilograms"), Decimal("0.001")),
    **dict.fromkeys(
        ("t", "tonne", "tonnes", "metricton", "metrictons", "metrictonne", "metrictonnes"), Decimal(1)
    ),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), Decimal("0.00045359237")),  # exact by definition
}
UNITS_ACCEPTED: Final = (
    "accepted are g, kg, t (tonne, metric ton) and lb in any letter case, also with CO2 or CO2e; MT and MTCO2e in "
    "capitals are metric tonnes, as AWS writes them, while Mt and mt may be megatonnes and are refused"
)


@dataclass(frozen=True)
class EmissionsColumns:
    """
    The columns of an emissions table that matter.

    Names are case-sensitive. One with a dot (``project.id``) is also found flattened with an underscore
    (``project_id``) and, in rows that are mappings, nested (``row["project"]["id"]``). To count by another
    column of a ready-made source, write ``dataclasses.replace(AWS, entity="product_code")``.

    :param period: column of the month: ``YYYY-MM``, an ISO date or timestamp, or a date object. A timestamp
        belongs to the month it is written in, whatever its zone: ``2026-10-31T23:30:00-05:00`` is October.
    :param entity: column of what the emissions are counted for: a project, an account, a service.
    :param amount: column of the emissions of a row.
    :param unit: the unit of all amounts: g, kg, t or lb, also with CO2 or CO2e. ``MT`` is metric tonnes, as AWS
        writes it; ``Mt`` is refused, since it may be megatonnes.
    :param unit_column: column of the unit of each row; exactly one of ``unit`` and ``unit_column`` is needed.
    :param no_entity: entity of the rows whose entity is empty or null.
    :raises EmissionsError: when there is no unit, two, or an unknown one.
    """

    period: str
    entity: str
    amount: str
    unit: str | None = None
    unit_column: str | None = None
    no_entity: str = "(no entity)"

    def __post_init__(self) -> None:
        if (self.unit is None) == (self.unit_column is None):
            raise EmissionsError(
                f"unit is {self.unit!r} and unit_column is {self.unit_column!r}: name exactly one of them"
            )
        if self.unit is not None and tonnes_per(self.unit) is None:
            raise EmissionsError(f"unit is {shown(self.unit)}: {UNITS_ACCEPTED}")


def tonnes_per(unit: str) -> Decimal | None:
    """Return what amounts of a unit are to be multiplied with; None for an unknown unit."""
    mass = _CARBON_DIOXIDE.sub("", re.sub(r"[\s_]", "", unit))
    return Decimal(1) if mass == "MT" else _TONNES_PER_UNIT.get(mass.casefold())


CODECARBON = EmissionsColumns(period="timestamp", entity="project_name", amount="emissions", unit="kg")

# Market-based and location-based amounts are alternatives: each source reads one of them, never their sum.
GOOGLE_CLOUD = EmissionsColumns(
    period="usage_month",
    entity="project.id",
    amount="carbon_footprint_total_kgCO2e.market_based",
    unit="kg",
    no_entity="(no project)",
)
GOOGLE_CLOUD_LOCATION_BASED = replace(GOOGLE_CLOUD, amount="carbon_footprint_total_kgCO2e.location_based")

AWS = EmissionsColumns(
    period="usage_period_start",
    entity="usage_account_id",
    amount="total_mbm_emissions_value",
    unit_column="total_mbm_emissions_unit",
)
AWS_LOCATION_BASED = replace(AWS, amount="total_lbm_emissions_value", unit_column="total_lbm_emissions_unit")
