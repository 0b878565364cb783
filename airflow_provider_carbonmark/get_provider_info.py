"""What Airflow discovers of this provider. Airflow calls it while it is being imported, so it imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_carbonmark.hooks import connection_form

PACKAGE = "airflow_provider_carbonmark"


def _option(
    description: str, *, example: str, kind: str = "string", default: str | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


CONFIG = {
    "carbonmark": {
        "description": "What a deployment decides for all its Carbonmark tasks. What belongs to one account is in the connection.",
        "options": {
            "return_base_url": _option(
                "Address of this Airflow as buyers' browsers reach it. They pay at, and come back to, /carbonmark below it. "
                "Default: [api] base_url; where that is not set either, buyers on this machine can come back, and there are no pay addresses.",
                example="https://airflow.example.com",
            ),
            "return_token_days": _option(
                "For how many days after a link was made its buyer may come back.",
                kind="integer",
                example="90",
                default="60",
            ),
            "ledger_conn_id": _option(
                "Connection of the database that holds the ledger, such as PostgreSQL. "
                "Default: the SQLite file ledger_path, which all workers and API servers have to share.",
                example="ledger",
            ),
            "ledger_path": _option(
                "SQLite file that holds the ledger where ledger_conn_id is empty. "
                "Default: carbonmark-ledger.db in AIRFLOW_HOME, refused unless the executor is LocalExecutor.",
                example="/srv/airflow/carbonmark-ledger.db",
            ),
            "deployment": _option(
                "Short name of this Airflow, at most 50 characters without brackets. Airflows that share a ledger must "
                "each have another one, so that the runs of one are never taken for those of another. Set it before the first run: what "
                "runs without a name left open is taken up by none that has one.",
                example="europe",
            ),
            "emissions_roots": _option(
                "Where files of emissions may be, separated by commas; the param emissions_file of the sample DAG is typed by "
                "whoever may start it. Default: anywhere that the worker can read.",
                example="s3://aws_default@example-exports/carbon, file:///srv/emissions",
            ),
            "minimum_payment_usd": _option(
                "The least that can be paid, in USD. What costs less is not planned and stays open, until it is enough "
                "for a later plan of the DAG, by itself or with others.",
                example="1.00",
                default="0.50",
            ),
            "link_hours": _option(
                "How many hours a payment page can be used, where Carbonmark doesn't tell. Listings that expire sooner are not planned.",
                kind="integer",
                example="72",
                default="24",
            ),
            "disclosure_facts": _option(
                "YAML or JSON file that states of the company and of credits what the market doesn't tell: what they stand for, "
                "which standards are recognised, who sells. See dags/disclosure_facts.yaml. Default: nothing of it is stated.",
                example="/srv/airflow/disclosure_facts.yaml",
            ),
            "max_concurrent_polls": _option(
                "How many payments of one connection a triggerer asks about at the same moment.",
                kind="integer",
                example="20",
                default="10",
            ),
        },
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, which holds to ``airflow/provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-carbonmark",
        "name": "Carbonmark",
        "description": "Buy and retire carbon credits through Carbonmark's Checkout Service.",
        "integrations": [
            {
                "integration-name": "Carbonmark",
                "external-doc-url": "https://docs.carbonmark.com",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Carbonmark", "python-modules": [f"{PACKAGE}.hooks.carbonmark"]}],
        "operators": [
            {
                "integration-name": "Carbonmark",
                "python-modules": [
                    f"{PACKAGE}.operators.bought",
                    f"{PACKAGE}.operators.carbonmark",
                    f"{PACKAGE}.operators.housekeeping",
                    f"{PACKAGE}.operators.ledger",
                    f"{PACKAGE}.operators.payment",
                ],
            }
        ],
        "sensors": [{"integration-name": "Carbonmark", "python-modules": [f"{PACKAGE}.sensors.carbonmark"]}],
        "triggers": [
            {"integration-name": "Carbonmark", "python-modules": [f"{PACKAGE}.triggers.carbonmark"]}
        ],
        "connection-types": [
            {
                "connection-type": connection_form.CONN_TYPE,
                "hook-class-name": f"{PACKAGE}.hooks.carbonmark.CarbonmarkHook",
                "hook-name": connection_form.HOOK_NAME,
                "conn-fields": connection_form.CONN_FIELDS,
                "ui-field-behaviour": connection_form.UI_FIELD_BEHAVIOUR,
            }
        ],
        "extra-links": [f"{PACKAGE}.links.CheckoutLink", f"{PACKAGE}.links.RetirementLink"],
        "plugins": [{"name": "carbonmark", "plugin-class": f"{PACKAGE}.web.plugin.CarbonmarkPlugin"}],
        "cli": [f"{PACKAGE}.cli.definition.get_carbonmark_cli_commands"],
        "config": CONFIG,
    }
