"""The ledger → figures, disclosures, pages, chart, files."""

from airflow_provider_carbonmark.reporting.records import Records, read_records
from airflow_provider_carbonmark.reporting.report import make_report

__all__ = ["Records", "make_report", "read_records"]
