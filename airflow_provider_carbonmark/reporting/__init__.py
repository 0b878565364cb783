"""The ledger → figures, pages, chart and files."""

from airflow_provider_carbonmark.reporting.report import make_report

__all__ = ["make_report"]
