"""Emissions, the market and what is covered → what to buy."""

from airflow_provider_carbonmark.planning.filters import ListingFilter
from airflow_provider_carbonmark.planning.limits import Limits, PlanLimitError
from airflow_provider_carbonmark.planning.listings import NoListingError
from airflow_provider_carbonmark.planning.plan import plan_purchases

__all__ = ["Limits", "ListingFilter", "NoListingError", "PlanLimitError", "plan_purchases"]
