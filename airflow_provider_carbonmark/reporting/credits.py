"""What was cancelled, by credit, with all that is known of it; and in all: in a period, and for the emissions of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.ledger.values import EXACT, total
from airflow_provider_carbonmark.reporting.countries import is_in_eu
from airflow_provider_carbonmark.reporting.regulations import too_late_from

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.facts import DisclosureFacts, Mechanism, Sink
    from airflow_provider_carbonmark.ledger.projects import Project
    from airflow_provider_carbonmark.ledger.questions.cancellations import Cancellation
    from airflow_provider_carbonmark.ledger.retirements import RetirementFacts
    from airflow_provider_carbonmark.reporting.periods import Period

_ZERO = Decimal(0)
#: Per cent of credits: a ten-thousandth is one of a million.
_PLACES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """
    A purchase of credits that was cancelled. Its fields are the columns of ``credits.csv``; None is what nobody states.

    :param purchase: its number in the ledger.
    :param project_name: as the market lists it; with its page at the registry, and the categories and ids of its methodologies.
    :param project_type: categories, such as ``Forestry``.
    :param mechanism: as the deployment states it of the project or its methodologies; with ``sink``.
    :param in_eu: whether its country is a member state of the European Union.
    :param corresponding_adjustment: as the deployment states it of the project.
    :param registry: what the project's id begins with.
    :param standard: its name; with ``standard_recognised`` as the deployment states it.
    :param tonnes: all of the purchase.
    :param cancelled_in_period_tonnes: of these, what was cancelled in the report's period: all or nothing.
    :param share_percent: that in per cent of all that was; these add up to 100.
    :param for_period_tonnes: what is for the emissions of the period.
    :param late_tonnes: what was cancelled more than 12 months after the end of the year of the emissions that it is for.
    :param cancelled_at: when it was cancelled, UTC.
    :param cancelled_at_is: ``told`` by Carbonmark, ``seen``: when we looked, or None where nobody kept which.
    :param serial_numbers: at the registry that issued the credits.
    :param bridge: what brought them on chain.
    :param retiring_name: who retired them, as the market tells it.
    :param seller: the business that sold them, as the deployment states it.
    :param cost_usd: USD with fees, as quoted.
    :param fees_usd: fees by the listing when it was planned: what a tonne cost with them less without, times the tonnes.
    :param certificate_file: where the certificate's copy is, from the report's folder; with its SHA-256.
    """

    purchase: int
    project_id: str | None
    project_name: str | None
    project_url: str | None
    project_type: str | None
    mechanism: Mechanism | None
    sink: Sink | None
    country: str | None
    in_eu: bool | None
    corresponding_adjustment: bool | None
    methodologies: str | None
    registry: str | None
    standard: str | None
    standard_recognised: bool | None
    vintage: int | None
    tonnes: Decimal
    cancelled_in_period_tonnes: Decimal
    share_percent: Decimal
    for_period_tonnes: Decimal
    late_tonnes: Decimal
    cancelled_at: datetime | None
    cancelled_at_is: str | None
    serial_numbers: str | None
    bridge: str | None
    retiring_name: str | None
    beneficiary_name: str
    retirement_message: str
    seller: str | None
    cost_usd: Decimal | None
    fees_usd: Decimal | None
    certificate_url: str | None
    certificate_file: str | None
    certificate_sha256: str | None
    transaction_hash: str | None
    explorer_url: str | None


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """
    What was cancelled, tonnes: in a period (by the date of cancellation, UTC), and for the emissions of it.

    :param in_period_tonnes: cancelled in the period, for whatever; the next three add up to it.
    :param in_period_for_it_tonnes: of that, for the emissions of the period.
    :param in_period_for_others_tonnes: for those of other periods.
    :param in_period_for_none_tonnes: for none that the ledger knows: rounding, and purchases without a plan.
    :param in_period_late_tonnes: of the first, what was cancelled more than 12 months after the end of the emissions' year.
    :param in_period_cost_usd: what that cost as quoted, fees included.
    :param in_period_fees_usd: fees, of those whose fees are told; their tonnes are ``in_period_fees_told_tonnes``.
    :param for_period_tonnes: cancelled for the emissions of the period, whenever; the next two add up to it.
    :param for_period_in_it_tonnes: of that, cancelled in the period.
    :param for_period_at_other_times_tonnes: cancelled before or after it.
    :param for_period_late_tonnes: as above, of what is for the period.
    """

    in_period_tonnes: Decimal = _ZERO
    in_period_for_it_tonnes: Decimal = _ZERO
    in_period_for_others_tonnes: Decimal = _ZERO
    in_period_for_none_tonnes: Decimal = _ZERO
    in_period_late_tonnes: Decimal = _ZERO
    in_period_cost_usd: Decimal = _ZERO
    in_period_fees_usd: Decimal = _ZERO
    in_period_fees_told_tonnes: Decimal = _ZERO
    for_period_tonnes: Decimal = _ZERO
    for_period_in_it_tonnes: Decimal = _ZERO
    for_period_at_other_times_tonnes: Decimal = _ZERO
    for_period_late_tonnes: Decimal = _ZERO


def cancelled_of(period: Period, cancelled: Iterable[Cancellation]) -> Cancelled:
    """Add up what was cancelled in a period, and for the emissions of it."""
    within = [(each, _for_period(each, period), period.has_time(each.cancelled_at)) for each in cancelled]
    inside = [each for each, _, is_in in within if is_in]
    in_tonnes, for_it = (
        total(each.tonnes for each in inside),
        total(tonnes for _, tonnes, is_in in within if is_in),
    )
    for_any = total(tonnes for each in inside for tonnes in each.for_months.values())
    for_period = total(tonnes for _, tonnes, _ in within)
    fees = [(each.tonnes, fee) for each in inside if (fee := _fees(each)) is not None]
    return Cancelled(
        in_period_tonnes=in_tonnes,
        in_period_for_it_tonnes=for_it,
        in_period_for_others_tonnes=EXACT.subtract(for_any, for_it),
        in_period_for_none_tonnes=EXACT.subtract(in_tonnes, for_any),
        in_period_late_tonnes=total(_late(each) for each in inside),
        in_period_cost_usd=total(each.cost_usd for each in inside if each.cost_usd is not None),
        in_period_fees_usd=total(fee for _, fee in fees),
        in_period_fees_told_tonnes=total(tonnes for tonnes, _ in fees),
        for_period_tonnes=for_period,
        for_period_in_it_tonnes=for_it,
        for_period_at_other_times_tonnes=EXACT.subtract(for_period, for_it),
        for_period_late_tonnes=total(_late(each, period) for each, _, _ in within),
    )


def credits_of(
    period: Period,
    cancelled: Iterable[Cancellation],
    *,
    projects: Iterable[Project],
    retirements: Iterable[RetirementFacts],
    certificates: Mapping[int, str],
    facts: DisclosureFacts,
) -> list[Credit]:
    """Return what was cancelled in a period or for its emissions, by when it was; the rest are fields of the report's records."""
    known = {each.project_id: each for each in projects}
    # Once for all credits of a project: there may be a million of them.
    of_project = cache(lambda id, registry: _of_project(id, registry, known.get(id), facts))
    told = {each.purchase: each for each in retirements}
    in_order = sorted(cancelled, key=lambda each: (each.cancelled_at or period.until, each.purchase))
    in_period = [each.tonnes if period.has_time(each.cancelled_at) else _ZERO for each in in_order]
    percents = shares(in_period, _PLACES)
    return [
        Credit(
            purchase=each.purchase,
            **of_project(each.project_id, each.registry),
            vintage=each.vintage,
            tonnes=each.tonnes,
            cancelled_in_period_tonnes=tonnes,
            share_percent=percent,
            for_period_tonnes=_for_period(each, period),
            late_tonnes=_late(each),
            cancelled_at=each.cancelled_at,
            cancelled_at_is={True: "told", False: "seen", None: None}[each.is_told],
            **_of_retirement(told.get(each.purchase)),
            beneficiary_name=each.beneficiary_name,
            retirement_message=each.retirement_message,
            cost_usd=each.cost_usd,
            fees_usd=_fees(each),
            certificate_url=each.certificate_url,
            certificate_file=certificates.get(each.purchase),
            transaction_hash=each.transaction_hash,
            explorer_url=each.explorer_url,
        )
        for each, tonnes, percent in zip(in_order, in_period, percents, strict=True)
    ]


def shares(amounts: Sequence[Decimal], places: int) -> list[Decimal]:
    """
    Give amounts in per cent of their sum, so that the shares add up to 100 exactly; all are 0 where the sum is.

    Each is rounded down, and what that leaves goes, a step each, to those that lost most by it; of equals, to the first.

    :param amounts: zero or more each.
    :param places: decimals of the shares.
    """
    whole, steps = total(amounts), Decimal(100).scaleb(places)
    if not whole:
        return [_ZERO.scaleb(-places) for _ in amounts]
    divided = [EXACT.divmod(EXACT.multiply(amount, steps), whole) for amount in amounts]
    left = int(EXACT.subtract(steps, total(down for down, _ in divided)))
    by_loss = sorted(range(len(divided)), key=lambda place: divided[place][1], reverse=True)
    rounded_up = set(by_loss[:left])
    return [
        EXACT.add(down, int(place in rounded_up)).scaleb(-places, EXACT)
        for place, (down, _) in enumerate(divided)
    ]


def _for_period(bought: Cancellation, period: Period) -> Decimal:
    return total(tonnes for month, tonnes in bought.for_months.items() if period.has_month(month))


def _late(bought: Cancellation, period: Period | None = None) -> Decimal:
    """Add up what was cancelled too late for its emissions: of all months, or of a period's."""
    return total(
        tonnes
        for month, tonnes in bought.for_months.items()
        if bought.cancelled_at is not None
        and bought.cancelled_at >= too_late_from(month)
        and (period is None or period.has_month(month))
    )


def _fees(bought: Cancellation) -> Decimal | None:
    if bought.unit_price_usd is None or bought.base_unit_price_usd is None:
        return None
    return EXACT.multiply(EXACT.subtract(bought.unit_price_usd, bought.base_unit_price_usd), bought.tonnes)


def _of_project(
    id: str | None, registry: str | None, project: Project | None, facts: DisclosureFacts
) -> dict[str, Any]:
    stated, standard = facts.project(id), facts.standard(registry)
    methodologies = project.methodologies if project else ()
    ids = [each.id for each in methodologies]
    country = stated.country or (project.country if project else None)
    return {
        "project_id": id,
        "project_name": project.name if project else None,
        "project_url": project.url if project else None,
        "project_type": _joined(each.category for each in methodologies),
        "mechanism": facts.mechanism_of(id, ids),
        "sink": facts.sink_of(id, ids),
        "country": country,
        "in_eu": is_in_eu(country),
        "corresponding_adjustment": stated.corresponding_adjustment,
        "methodologies": _joined(each.id or each.name for each in methodologies),
        "registry": registry,
        "standard": standard.name or (project.registry if project else None) or registry,
        "standard_recognised": standard.recognised,
        "seller": stated.seller or facts.company.seller,
    }


def _of_retirement(told: RetirementFacts | None) -> dict[str, Any]:
    return {
        "serial_numbers": _joined(told.serial_numbers) if told else None,
        "bridge": told.bridge if told else None,
        "retiring_name": told.retiring_name if told else None,
        "certificate_sha256": told.certificate_sha256 if told else None,
    }


def _joined(texts: Iterable[str]) -> str | None:
    return "; ".join(dict.fromkeys(filter(None, texts))) or None
