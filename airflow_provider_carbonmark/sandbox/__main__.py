"""The sandbox from the command line: ``python -m airflow_provider_carbonmark.sandbox --port 8787``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from errno import EACCES, EADDRINUSE
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError

from airflow_provider_carbonmark.sandbox.server import SandboxServer
from airflow_provider_carbonmark.sandbox.switches import Fault, Switches
from airflow_provider_carbonmark.sandbox.world.cards import CARDS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def main(argv: list[str] | None = None) -> int:
    """
    Serve until interrupted.

    :param argv: the command line, without the program's name.
    :return: the exit code: 0, or 2 when it cannot start.
    """
    options = vars(_parser().parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        with SandboxServer(log_level="info", **options) as sandbox:
            print(_usage(sandbox.url), flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except ValidationError as error:
        for each in error.errors():
            print(f"{'.'.join(map(str, each['loc']))} is {each['input']!r}: {each['msg']}", file=sys.stderr)
    except OSError as error:
        reason = str(error)
        if error.errno in (EADDRINUSE, EACCES):
            reason = f"{os.strerror(error.errno)}. Try another --port."
        print(f"Cannot serve at {options['host']}:{options['port']}: {reason}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    cards = "\n".join(f"  {card.spaced_number}  {card.what_happens}" for card in CARDS)
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_carbonmark.sandbox",
        usage="%(prog)s [--host HOST] [--port PORT] [switches]",
        description="A local understudy of Carbonmark, on which nothing is ever bought.",
        epilog=f"Test cards, for the payment page:\n{cards}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: this machine only)")
    parser.add_argument(
        "--port", type=_port, default=8787, help="port to bind; 0 takes a free one (default: 8787)"
    )
    parser.add_argument("--ssl-certfile", type=_file, help="PEM certificate, to speak HTTPS")
    parser.add_argument("--ssl-keyfile", type=_file, help="PEM key of the certificate")
    for name, field in Switches.model_fields.items():
        _add_switch(parser, name, field)
    return parser


def _add_switch(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    help_text = (field.description or "").replace("%", "%%")
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text, **options)
    elif name == "faults":
        names = ", ".join(Fault.model_fields)
        help_text = f"Repeatable, such as --fault kind=error,status=503,next=2. Names: {names}."
        parser.add_argument(
            "--fault", action="append", type=_fault, metavar="kind=…,…", help=help_text, **options
        )
    elif get_origin(field.annotation) is tuple:
        parser.add_argument(flag, type=lambda text: text.split(","), metavar="A,B", help=help_text, **options)
    elif get_origin(field.annotation) is dict:
        parser.add_argument(flag, type=_json, metavar="JSON", help=help_text, **options)
    else:
        choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
        parser.add_argument(flag, choices=choices or None, help=help_text, **options)


def _fault(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if not all(separator for _, separator, _ in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form kind=error,status=503")
    return {name: value for name, _, value in parts}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use 0 to 65535")
    return int(text)


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return text


def _usage(url: str) -> str:
    connection = {
        "conn_type": "carbonmark",
        "host": url,
        "password": "cm_api_demo",
        "extra": {"market_url": url, "environment": "test"},
    }
    return (
        f"Carbonmark sandbox at {url} - nothing is bought here. Stop it with Ctrl-C.\n\n"
        "As an Airflow connection:\n"
        f"export AIRFLOW_CONN_CARBONMARK_DEFAULT='{json.dumps(connection)}'\n\n"
        f"What it can do: {url}/  What happened so far: {url}/sandbox/state\n"
    )


if __name__ == "__main__":
    sys.exit(main())
