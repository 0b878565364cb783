"""Buy and retire carbon credits from Apache Airflow, through Carbonmark."""

__version__ = "0.1.0"
