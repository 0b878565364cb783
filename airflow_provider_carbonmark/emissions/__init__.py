"""Rows of any source → tonnes per entity and month."""

from airflow_provider_carbonmark.emissions.columns import (
    AWS,
    AZURE,
    AZURE_EXPORT,
    AZURE_MONTHLY_SUMMARY,
    CLIMATIQ,
    CLOUD_CARBON_FOOTPRINT,
    CODECARBON,
    GOOGLE_CLOUD,
    OVHCLOUD,
    SCALEWAY,
    Constant,
    EmissionsColumns,
    Scope,
)
from airflow_provider_carbonmark.emissions.errors import EmissionsError
from airflow_provider_carbonmark.emissions.sums import EntityEmissions, emissions_of_month

__all__ = [
    "AWS",
    "AZURE",
    "AZURE_EXPORT",
    "AZURE_MONTHLY_SUMMARY",
    "CLIMATIQ",
    "CLOUD_CARBON_FOOTPRINT",
    "CODECARBON",
    "GOOGLE_CLOUD",
    "OVHCLOUD",
    "SCALEWAY",
    "Constant",
    "EmissionsColumns",
    "EmissionsError",
    "EntityEmissions",
    "Scope",
    "emissions_of_month",
]
