"""What makes a plan for a run: with the market and what is known of its projects; and what is told of what it leaves open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pendulum
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_carbonmark.api.errors import CarbonmarkError
from airflow_provider_carbonmark.api.retries import is_passing
from airflow_provider_carbonmark.hooks.checkout import link_lifetime
from airflow_provider_carbonmark.hooks.facts.disclosure import disclosure_facts
from airflow_provider_carbonmark.hooks.facts.projects import known_projects
from airflow_provider_carbonmark.hooks.ledger import minimum_payment_usd

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.models import Listing
    from airflow_provider_carbonmark.emissions import EntityEmissions
    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
    from airflow_provider_carbonmark.ledger import Ledger
    from airflow_provider_carbonmark.ledger.values import Coverage, Plan
    from airflow_provider_carbonmark.planning import Limits, ListingFilter
    from airflow_provider_carbonmark.planning.dedication import Dedication
    from airflow_provider_carbonmark.planning.filters import ProjectFacts

log = logging.getLogger(__name__)


def planner(
    ledger: Ledger,
    hook: CarbonmarkHook,
    emissions: Sequence[EntityEmissions],
    dedication: Dedication,
    filters: ListingFilter,
    limits: Limits,
    *,
    is_preview: bool,
) -> Callable[[Coverage], Plan]:
    """
    Read the market, and return what makes a plan for it of what is covered, and tells in the log what that leaves open.

    :param is_preview: whether the ledger is to be left as it is.
    :raises AirflowException: when the filter needs what the market says of projects, and that can't be read.
    """
    from airflow_provider_carbonmark.planning import plan_purchases

    listings, lifetime, minimum = hook.list_prices(), link_lifetime(), minimum_payment_usd()
    facts = _facts(ledger, hook, listings, filters, lifetime, keep=not is_preview)

    def make(coverage: Coverage) -> Plan:
        plan = plan_purchases(
            emissions,
            coverage,
            listings,
            dedication=dedication,
            filters=filters,
            facts=facts,
            limits=limits,
            minimum_payment_usd=minimum,
            link_lifetime=lifetime,
            now=pendulum.now("UTC"),
        )
        _warn(plan)
        return plan

    return make


def _facts(
    ledger: Ledger,
    hook: CarbonmarkHook,
    listings: Sequence[Listing],
    filters: ListingFilter,
    lifetime: timedelta,
    *,
    keep: bool,
) -> ProjectFacts:
    """Return what is known of the projects that the filter asks about; what the ledger doesn't know, the market is asked, once for all."""
    from airflow_provider_carbonmark.planning.filters import NOTHING_KNOWN, ProjectFacts
    from airflow_provider_carbonmark.planning.market import projects_to_know

    if not filters.asked_of_projects:
        return NOTHING_KNOWN
    ids = projects_to_know(listings, filters, now=pendulum.now("UTC"), link_lifetime=lifetime)
    try:
        projects = known_projects(ledger, hook, ids, keep=keep)
    except CarbonmarkError as error:
        asked = ", ".join(filters.asked_of_projects)
        problem = (
            f"The filter asks for {asked}: what the market says of projects has to be known, and can't be read now: {error}. Try again "
            f"later, or plan without {asked}"
        )
        raise (AirflowException if is_passing(error) else AirflowFailException)(problem) from error
    known = {project.project_id: project for project in projects}
    mechanisms, stated = {}, disclosure_facts()
    for id in ids:
        project = known.get(id)
        if project and (country := stated.project(id).country):
            known[id] = replace(project, country=country)
        methodologies = [each.id for each in project.methodologies] if project else []
        if mechanism := stated.mechanism_of(id, methodologies):
            mechanisms[id] = mechanism
    return ProjectFacts(known, mechanisms)


def _warn(plan: Plan) -> None:
    for over in plan.over_covered:
        log.warning(
            "%s has more than it needs for %s: %s t emitted, %s t covered",
            *(over.entity, over.month, over.emitted_tonnes, over.covered_tonnes),
        )
    for left in plan.carried_over:
        log.warning(
            "%s t of %s, %s are not bought now, %s",
            *(left.need.offset_tonnes, left.need.entity, left.need.month, left.reason),
        )
    for gone in plan.unstated:
        log.warning(
            "%s was planned for %s before and is not among its emissions now: what is known of it stays, %s t emitted and "
            "%s t covered. State it with 0 tonnes if it is gone; if it was renamed, what is covered is bought twice unless it keeps "
            "its name. What it lacks is bought when it is stated again. Sources that share a ledger must not share names of entities",
            *(gone.entity, gone.month, gone.emitted_tonnes, gone.covered_tonnes),
        )
