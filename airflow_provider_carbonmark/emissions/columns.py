"""
Which columns of an emissions table matter, what its amounts are, and the ready-made sources.

What is documented of the sources, what was seen and what is assumed stands beside each of them; README.md in this folder is
the table of all.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Final, Literal

from airflow_provider_carbonmark.emissions.errors import EmissionsError, shown
from airflow_provider_carbonmark.emissions.periods import tells_months_apart
from airflow_provider_carbonmark.emissions.units import UNITS_ACCEPTED, tonnes_per

MARKET_BASED: Final = "market-based"
LOCATION_BASED: Final = "location-based"
NEWEST: Final = "newest"

_SCOPES = re.compile(r"(?:[123](?:\+[123])*)?")


@dataclass(frozen=True)
class Constant:
    """The entity of a table that names none: ``entity=Constant("Example Corp")``."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise EmissionsError(f"the constant entity is {shown(self.name)}: write its name")


@dataclass(frozen=True)
class Scope:
    """
    What an amount is, by the Greenhouse Gas Protocol.

    :param scopes: ``"1"``, ``"2"``, ``"3"`` or several, ``"1+2+3"``; empty where the table does not say.
    :param method: ``"market-based"`` or ``"location-based"``; empty where there is no such difference, or nobody says.
    :raises EmissionsError: when either is anything else.
    """

    scopes: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        if not _SCOPES.fullmatch(self.scopes):
            raise EmissionsError(f'scopes is {shown(self.scopes)}: write "1", "2", "3" or several, "1+2+3"')
        if self.method not in ("", MARKET_BASED, LOCATION_BASED):
            raise EmissionsError(f'method is {shown(self.method)}: write "market-based" or "location-based"')

    def __str__(self) -> str:
        stated = (f"scope {self.scopes}" if self.scopes else "", self.method)
        return ", ".join(filter(None, stated)) or "scope not stated"


@dataclass(frozen=True)
class EmissionsColumns:
    """
    The columns of an emissions table that matter, and how it is written.

    Names are case-sensitive. One with a dot (``project.id``) is also found flattened with an underscore
    (``project_id``) and, in rows that are mappings, nested (``row["project"]["id"]``). To count by another
    column of a ready-made source, write ``dataclasses.replace(AWS, entity="product_code")``.

    :param period: column of the month: ``YYYY-MM``, an ISO date or timestamp, or a date object. A timestamp
        belongs to the month it is written in, whatever its zone: ``2026-10-31T23:30:00-05:00`` is October.
    :param entity: column of what the emissions are counted for: a project, an account, a service; or a :class:`Constant`.
    :param amount: column of the emissions of a row.
    :param unit: the unit of all amounts: g, kg, t or lb, also with CO2 or CO2e. ``MT`` is metric tonnes, as AWS
        writes it; ``Mt`` is refused, since it may be megatonnes.
    :param unit_column: column of the unit of each row; exactly one of ``unit`` and ``unit_column`` is needed.
    :param no_entity: entity of the rows whose entity is empty or null, also as pandas writes it: ``nan``, ``None``, ``NaT``.
    :param scope: what ``amount`` is.
    :param amounts: instead of ``amount``, several columns that are added, with what each is.
    :param running_total_of: column of what the amounts are running totals of, such as a run or a meter. It then counts by how
        much the total of each grew within the month.
    :param part_of_total: column that is filled where a row is a part of the running total instead of the total itself.
    :param version_column: column of the version of the model that amounts were worked out with.
    :param version: which version counts where an entity has several in a month: ``"newest"``, or one of them; None refuses.
    :param period_end: column of the end of each row's period. A row of several months is refused.
    :param period_format: how months are written where they are not ISO, as for ``datetime.strptime``: ``%m/%Y``.
    :param blank: what a blank amount means: ``"refuse"``, ``"zero"`` (nothing was emitted) or ``"skip_row"`` (there is no such row).
    :param leave_out: rows with one of these as period or entity are left out, such as ``("Total",)``.
    :param optional: columns that may be missing or empty.
    :param delimiter: what stands between the cells of a CSV.
    :param decimal: the decimal sign, ``"."`` or ``","``.
    :param encoding: of a CSV.
    :param name: the source's name, kept with what was read.
    :raises EmissionsError: when these don't fit together.
    """

    period: str
    entity: str | Constant
    amount: str | None = None
    unit: str | None = None
    unit_column: str | None = None
    no_entity: str = "(no entity)"
    scope: Scope = Scope()
    amounts: Mapping[str, Scope] = field(default_factory=dict, hash=False)
    running_total_of: str | None = None
    part_of_total: str | None = None
    version_column: str | None = None
    version: str | None = None
    period_end: str | None = None
    period_format: str | None = None
    blank: Literal["refuse", "zero", "skip_row"] = "refuse"
    leave_out: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"
    name: str = ""

    def __post_init__(self) -> None:
        if (self.unit is None) == (self.unit_column is None):
            raise EmissionsError(
                f"unit is {self.unit!r} and unit_column is {self.unit_column!r}: name exactly one of them"
            )
        if self.unit is not None and tonnes_per(self.unit) is None:
            raise EmissionsError(f"unit is {shown(self.unit)}: {UNITS_ACCEPTED}")
        self._check_amounts()
        if self.version is not None and self.version_column is None:
            raise EmissionsError(
                "version chooses among the versions of version_column: name that column, too"
            )
        if self.part_of_total is not None and self.running_total_of is None:
            raise EmissionsError("part_of_total needs running_total_of: name that column, too")
        if self.period_format is not None and not tells_months_apart(self.period_format):
            raise EmissionsError(
                f"period_format is {shown(self.period_format)}: write the year and the month as datetime.strptime "
                'reads them, such as "%Y/%m", "%Y%m", "%Y%m%d", "%b %Y" or "%m/%Y"'
            )
        if self.blank not in ("refuse", "zero", "skip_row"):
            raise EmissionsError(f'blank is {shown(self.blank)}: write "refuse", "zero" or "skip_row"')
        if isinstance(self.leave_out, str):
            raise EmissionsError(f"leave_out is {shown(self.leave_out)}: write a tuple, such as ('Total',)")
        self._check_text()

    def _check_amounts(self) -> None:
        if (self.amount is None) == (not self.amounts):
            raise EmissionsError(
                f"amount is {self.amount!r} and amounts are {shown(dict(self.amounts))}: give exactly one of them"
            )
        if not all(isinstance(scope, Scope) for scope in self.amounts.values()):
            raise EmissionsError('amounts says of each column what it is: {"scope1": Scope("1")}')
        for (one, a), (other, b) in combinations(self.amounts.items(), 2):
            same = set(a.scopes) & set(b.scopes) - {"+"}
            if same and a.method and b.method and a.method != b.method:
                raise EmissionsError(
                    f"amounts has {one!r} ({a}) and {other!r} ({b}): these are two figures of the same emissions, and "
                    "adding them would count these twice; leave one out"
                )

    def _check_text(self) -> None:
        if self.decimal not in (".", ","):
            raise EmissionsError(f'decimal is {shown(self.decimal)}: write "." or ","')
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n' or self.delimiter == self.decimal == ".":
            raise EmissionsError(f'delimiter is {shown(self.delimiter)}: write one character, such as ";"')
        try:
            io.TextIOWrapper(io.BytesIO(), encoding=self.encoding)
        except LookupError:
            raise EmissionsError(
                f'encoding is {shown(self.encoding)}: write one that Python knows, such as "cp1252"'
            ) from None

    @property
    def measured(self) -> Mapping[str, Scope]:
        """The columns of amounts, with what each is."""
        return self.amounts or {str(self.amount): self.scope}

    @property
    def wanted(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        entity = None if isinstance(self.entity, Constant) else self.entity
        others = (self.unit_column, self.running_total_of, self.part_of_total, self.version_column)
        named = (self.period, self.period_end, entity, *self.measured, *others)
        return tuple(dict.fromkeys(column for column in named if column is not None))

    @property
    def text_encoding(self) -> str:
        """The encoding, without the mark that UTF-8 may begin with."""
        return "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding


# Seen in CodeCarbon 2.3.4 and 3.3.2: a row is the total of its run so far; rows of a tasks' file are parts of that total. Files of
# 0.x and 1.x have no run_id. Electricity by the grid's average: scope 2 on one's own machine, scope 3 on somebody else's.
CODECARBON = EmissionsColumns(
    period="timestamp",
    entity="project_name",
    amount="emissions",
    unit="kg",
    running_total_of="run_id",
    part_of_total="task_name",
    optional=frozenset({"run_id", "task_name"}),
    scope=Scope("2", LOCATION_BASED),
    name="CodeCarbon",
)

# Market-based and location-based amounts are alternatives: each source reads one of them, never their sum. The scopes are those of
# the provider; for its customer all of them are scope 3.
# Documented: columns, units, scopes and methods. Seen: exports whose older rows have no carbon_model_version.
GOOGLE_CLOUD = EmissionsColumns(
    period="usage_month",
    entity="project.id",
    amount="carbon_footprint_total_kgCO2e.market_based",
    unit="kg",
    no_entity="(no Google Cloud project)",
    version_column="carbon_model_version",
    version=NEWEST,
    optional=frozenset({"carbon_model_version"}),
    scope=Scope("1+2+3", MARKET_BASED),
    name="Google Cloud",
)
GOOGLE_CLOUD_LOCATION_BASED = replace(
    GOOGLE_CLOUD,
    amount="carbon_footprint_total_kgCO2e.location_based",
    scope=Scope("1+2+3", LOCATION_BASED),
)

# Documented: columns, the unit MTCO2e, nulls, two versions of a month at once, and scope 3 from model v3.0.0 on.
AWS = EmissionsColumns(
    period="usage_period_start",
    entity="usage_account_id",
    amount="total_mbm_emissions_value",
    unit_column="total_mbm_emissions_unit",
    period_end="usage_period_end",
    version_column="model_version",
    version=NEWEST,
    optional=frozenset({"usage_period_end", "model_version"}),
    scope=Scope("1+2+3", MARKET_BASED),
    name="AWS",
)
AWS_LOCATION_BASED = replace(
    AWS,
    amount="total_lbm_emissions_value",
    unit_column="total_lbm_emissions_unit",
    scope=Scope("1+2+3", LOCATION_BASED),
)

# Documented (API 2025-04-01): the items of "value" in a TopItemsMonthlySummaryReport by subscription; kg CO2E, date YYYY-MM-DD. Its
# scopes are those that carbonScopeList asked for, assumed to be all. Assumed: market-based.
AZURE = EmissionsColumns(
    period="date",
    entity="itemName",
    amount="latestMonthEmissions",
    unit="kg",
    scope=Scope("1+2+3", MARKET_BASED),
    name="Azure carbon optimization",
)
# Documented: a MonthlySummaryReport has no items. Write replace(AZURE_MONTHLY_SUMMARY, entity=Constant("…")) to name whose it is.
AZURE_MONTHLY_SUMMARY = replace(AZURE, entity=Constant("(no entity)"))
# Seen in public clients of Microsoft's sustainability API: dateKey 20260901, a row for each scope. Assumed: metric tonnes.
AZURE_EXPORT = EmissionsColumns(
    period="dateKey",
    period_format="%Y%m%d",
    entity="subscriptionId",
    amount="totalEmissions",
    unit="t",
    scope=Scope("1+2+3", MARKET_BASED),
    name="Azure emissions export",
)

# Seen in its source: the table by day that its command line writes, metric tons, a last row "Total"; older ones name the period "Date".
# Documented: the grid's average, and embodied emissions.
CLOUD_CARBON_FOOTPRINT = EmissionsColumns(
    period="Date (UTC)",
    entity=Constant("(no entity)"),
    amount="metric tons CO2e Emissions",
    unit="t",
    leave_out=("Total",),
    scope=Scope("2+3", LOCATION_BASED),
    name="Cloud Carbon Footprint",
)

# Seen: the carbon calculator's CSV of September 2026, whose lines may name no server and may be blank. Assumed: all three scopes.
OVHCLOUD = EmissionsColumns(
    period="date",
    entity="server_domain",
    amount="total_market_based_kg_co2eq",
    unit="kg",
    no_entity="(no OVHcloud server)",
    scope=Scope("1+2+3", MARKET_BASED),
    name="OVHcloud",
)

# Documented (v1alpha1): an answer has start_date, end_date (exclusive) and projects; a row is a project with the answer's dates beside
# it. Assumed: all three scopes, the grid's average.
SCALEWAY = EmissionsColumns(
    period="start_date",
    period_end="end_date",
    entity="project_id",
    amount="total_project_impact.kg_co2_equivalent",
    unit="kg",
    scope=Scope("1+2+3", LOCATION_BASED),
    name="Scaleway",
)

# Documented: an estimate has co2e and co2e_unit. It knows neither month nor entity: put both beside it. Its scope is the activity's.
CLIMATIQ = EmissionsColumns(
    period="month", entity="entity", amount="co2e", unit_column="co2e_unit", name="Climatiq"
)
