"""
Which commands there are: ``airflow carbonmark …``.

Every ``airflow`` command imports this, so nothing of ours is imported before its command runs.
"""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_COMMANDS = "airflow_provider_carbonmark.cli.commands"


def _arg(*flags: str, **about: Any) -> Arg:
    return Arg(flags, **about)  # type: ignore[no-untyped-call]


ARG_MONTH = _arg("--month", help="Of the emissions of this month only, YYYY-MM")
ARG_STATE = _arg("--state", help="In this state only, such as link_made, paid or retired")
ARG_TEST_MODE = _arg("--test-mode", help="The rehearsals instead of what is real", action="store_true")
ARG_FILE = _arg("file", help="File to write, one JSON object for each row; - for the terminal")
ARG_PERIOD = _arg("period", help="A month or a year: 2026-10 or 2026")
ARG_FOLDER = _arg(
    "folder", help="Folder to write, of any storage that Airflow knows: reports, s3://bucket/reports"
)
ARG_DOCUMENT = _arg("document", nargs="?", help="URL or file of the service's OpenAPI document")
ARG_PORT = _arg("--port", help="Port to listen at (default: 8787)", type=int, default=8787)
ARG_HOST = _arg("--host", help="Address to listen at (default: 127.0.0.1)", default="127.0.0.1")


def _action(name: str, help: str, *args: Arg) -> ActionCommand:
    return ActionCommand(name=name, help=help, func=lazy_load_command(f"{_COMMANDS}.{name}"), args=args)


def get_carbonmark_cli_commands() -> list[CLICommand]:
    """Return the commands for Airflow's command line."""
    ledger: tuple[Any, ...] = (
        _action(
            "show",
            "List what was planned, linked, paid and retired",
            ARG_MONTH,
            ARG_STATE,
            ARG_TEST_MODE,
            ARG_OUTPUT,
        ),
        _action("export", "Write every row of the ledger, but for its signing key", ARG_FILE),
        _action("check", "Prove on every row what holds of every ledger, and name those that break it"),
        _action("upgrade", "Bring the ledger's tables up to date; the first task that needs it does it, too"),
    )
    return [
        GroupCommand(
            name="carbonmark",
            help="Carbon credits: the ledger, reports, the sandbox",
            subcommands=(
                GroupCommand(name="ledger", help="Look after the ledger", subcommands=ledger),
                _action("report", "Write the report on a month or a year", ARG_PERIOD, ARG_FOLDER),
                _action("sandbox", "Serve the sandbox, in which nothing is bought", ARG_PORT, ARG_HOST),
                _action(
                    "contract",
                    "Compare the service's OpenAPI document with what this package assumes",
                    ARG_DOCUMENT,
                ),
            ),
        )
    ]
