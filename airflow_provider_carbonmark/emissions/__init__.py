"""Rows of any source → tonnes per entity and month."""

from airflow_provider_carbonmark.emissions.columns import AWS, CODECARBON, GOOGLE_CLOUD, EmissionsColumns
from airflow_provider_carbonmark.emissions.errors import EmissionsError
from airflow_provider_carbonmark.emissions.sums import EntityEmissions, emissions_of_month

__all__ = [
    "AWS",
    "CODECARBON",
    "GOOGLE_CLOUD",
    "EmissionsColumns",
    "EmissionsError",
    "EntityEmissions",
    "emissions_of_month",
]
