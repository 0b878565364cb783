"""What companies that cancel credits have to disclose, filled in from the credits; what nobody states is a share of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_carbonmark.ledger.values import total
from airflow_provider_carbonmark.reporting.credits import shares
from airflow_provider_carbonmark.reporting.regulations import AB_1305, ESRS_E1_7

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.questions.cancellations import Cancellation
    from airflow_provider_carbonmark.reporting.credits import Credit

NOT_STATED: Final = "not stated"
#: Decimals of a share in per cent: no disclosure asks for more.
_PLACES = 2
#: What credits stand for, in words.
MECHANISMS: Final = {
    "reduction": "reduction",
    "removal": "removal",
    "both": "reduction and removal",
    None: NOT_STATED,
}
_SINKS: Final = {"biogenic": "biogenic", "technological": "technological", None: NOT_STATED}
_IN_EU: Final = {True: "in the EU", False: "outside the EU", None: NOT_STATED}
_ADJUSTED: Final = {True: "with corresponding adjustment", False: "without", None: NOT_STATED}
_RECOGNISED: Final[dict[Any, str]] = {False: "standards that are not recognised", None: NOT_STATED}
_TYPES: Final = {
    "reduction": "avoided emission",
    "removal": "carbon removal",
    "both": "a combination of both",
}
#: Verra, whose credits came on chain over bridges until May 2022.
_VERRA = "VCS"


@dataclass(frozen=True)
class Share:
    """A part of what was cancelled; the shares of one question add up to 100 per cent, or are all 0 where nothing was."""

    name: str
    tonnes: Decimal
    percent: Decimal


@dataclass(frozen=True, kw_only=True)
class EsrsE17:
    """
    The disclosure on carbon credits of ESRS E1-7.

    :param regulation: what asks for it.
    :param cancelled_tonnes: cancelled in the period; the year before in ``cancelled_before_tonnes``.
    :param by_mechanism: by reduction and removal.
    :param removals_by_sink: of what removes, by where the carbon is.
    :param by_standard: by recognised quality standard.
    :param by_eu: by whether the projects are in the European Union.
    :param by_adjustment: by whether they qualify as corresponding adjustment (Paris Agreement, Article 6).
    :param planned_tonnes: planned to be cancelled under existing contracts: paid before the period's end, and not cancelled by then;
        with the times of the first and the last payment.
    """

    regulation: str
    cancelled_tonnes: Decimal
    cancelled_before_tonnes: Decimal
    by_mechanism: tuple[Share, ...]
    removals_by_sink: tuple[Share, ...]
    by_standard: tuple[Share, ...]
    by_eu: tuple[Share, ...]
    by_adjustment: tuple[Share, ...]
    planned_tonnes: Decimal
    planned_first_paid_at: datetime | None
    planned_last_paid_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Ab1305Project:
    """
    What AB 1305 asks of a project; None is what nobody states.

    :param seller: (a) the business entity that sells the credits, and ``registry``, the registry or programme.
    :param project_id: (b); with ``project_name``, (c), as the market lists it.
    :param type: (d) ``carbon removal``, ``avoided emission`` or ``a combination of both``; with ``site``, the country.
    :param protocol: (e) its methodologies.
    :param verification: (f) whether an independent third party verifies the company's data and claims.
    :param cancelled_in_period_tonnes: as of a credit; with ``for_period_tonnes``.
    """

    seller: str | None
    registry: str | None
    project_id: str | None
    project_name: str | None
    type: str | None
    site: str | None
    protocol: str | None
    verification: str | None
    cancelled_in_period_tonnes: Decimal
    for_period_tonnes: Decimal


@dataclass(frozen=True, kw_only=True)
class Ab1305:
    """The list of projects that AB 1305 asks for."""

    regulation: str
    projects: tuple[Ab1305Project, ...]


def esrs_e1_7(
    credits: Sequence[Credit], before_tonnes: Decimal, contracts: Iterable[Cancellation]
) -> EsrsE17:
    """Fill in the disclosure of ESRS E1-7; contracts are what was paid and not cancelled at the period's end."""
    standards: dict[Any, str] = {
        each.registry: f"{each.standard} ({each.registry})"
        if each.standard != each.registry
        else str(each.registry)
        for each in credits
        if each.standard_recognised
    }
    contracts = list(contracts)
    paid = sorted(each.paid_at for each in contracts if each.paid_at)
    return EsrsE17(
        regulation=str(ESRS_E1_7),
        cancelled_tonnes=total(each.cancelled_in_period_tonnes for each in credits),
        cancelled_before_tonnes=before_tonnes,
        by_mechanism=_by(credits, lambda each: each.mechanism, MECHANISMS),
        removals_by_sink=_by(
            [each for each in credits if each.mechanism in ("removal", "both")],
            lambda each: each.sink,
            _SINKS,
        ),
        by_standard=_by(
            credits,
            lambda each: each.registry if each.standard_recognised else each.standard_recognised,
            dict(sorted(standards.items(), key=lambda item: item[1])) | _RECOGNISED,
        ),
        by_eu=_by(credits, lambda each: each.in_eu, _IN_EU),
        by_adjustment=_by(credits, lambda each: each.corresponding_adjustment, _ADJUSTED),
        planned_tonnes=total(each.tonnes for each in contracts),
        planned_first_paid_at=paid[0] if paid else None,
        planned_last_paid_at=paid[-1] if paid else None,
    )


def ab_1305(credits: Iterable[Credit], verification: str | None) -> Ab1305:
    """List the projects of credits, by id; those without one as one."""
    projects: dict[str, list[Credit]] = defaultdict(list)
    for each in credits:
        projects[each.project_id or ""].append(each)
    listed = [
        Ab1305Project(
            seller=of_it[0].seller,
            registry=of_it[0].standard,
            project_id=id or None,
            project_name=of_it[0].project_name,
            type=_TYPES[of_it[0].mechanism] if of_it[0].mechanism else None,
            site=of_it[0].country,
            protocol=of_it[0].methodologies,
            verification=verification,
            cancelled_in_period_tonnes=total(each.cancelled_in_period_tonnes for each in of_it),
            for_period_tonnes=total(each.for_period_tonnes for each in of_it),
        )
        for id, of_it in sorted(projects.items())
    ]
    return Ab1305(regulation=str(AB_1305), projects=tuple(listed))


def retired_where(credits: Iterable[Credit]) -> str | None:
    """Say what of Verra's credits was retired where; None where there are none."""
    bridges: dict[str, list[Decimal]] = defaultdict(list)
    for each in credits:
        if each.registry == _VERRA:
            bridges[each.bridge or "no bridge told"].append(each.tonnes)
    if not bridges:
        return None
    told = ", ".join(f"{name}: {total(tonnes):,f} t" for name, tonnes in sorted(bridges.items()))
    return (
        f"Verra's credits that came on chain over a bridge ({told}) were retired on Verra's registry when they were bridged, in a "
        "wallet's name, so what was retired here, in the beneficiary's name, is what stands for them on chain."
    )


def _by(
    credits: Sequence[Credit], of: Callable[[Credit], Hashable], names: Mapping[Any, str]
) -> tuple[Share, ...]:
    """Share out what was cancelled in the period among the named parts, in their order; ``of`` tells which a credit belongs to."""
    sums: dict[Hashable, list[Decimal]] = {key: [] for key in names}
    for each in credits:
        sums[of(each)].append(each.cancelled_in_period_tonnes)
    tonnes = [total(amounts) for amounts in sums.values()]
    return tuple(map(Share, names.values(), tonnes, shares(tonnes, _PLACES)))
