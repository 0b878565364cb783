"""
The whole way once, on this machine: emissions, plan, checkout links, payment, proven retirements, ledger, report.

``python -m tests.e2e.demo`` starts the sandbox and a real Airflow, offsets two months of a small company, and pays every link on the payment
page as a buyer would. An entity that emitted too little for a payment of its own is carried over, and bought with the second month. The
link of the second month is paid after it has expired, by the address in Airflow that leads to a new one. The buyer's browser comes back
to Airflow, each run ends by itself when its retirements are proven, and a report is written. The ledger and the reports stay in ``.demo``:
the next demo finds everything bought, and buys nothing.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_carbonmark.ledger.names import State
from tests.e2e.buyer import PaymentRefused, is_expired, next_page, pay
from tests.e2e.processes import RunFailed, StackError, wait_until
from tests.e2e.stand import MONTHLY_OFFSET, Stand

API_KEY = "cm_api_demo00-0000-4000-8000-000000000000"
# What two teams and a batch job emitted, kg, as CodeCarbon writes it. In September the second emits too little for a payment of its own.
EMISSIONS = """\
timestamp,project_name,emissions
2026-09-12T08:00:00,web,8250
2026-09-20T08:00:00,api,3
2026-10-08T08:00:00,web,6500
2026-10-15T08:00:00,api,4125
2026-10-27T08:00:00,batch,2750
"""
# September with a certificate, and a link, for each entity; October as the DAG has it by default, with one for all.
MONTHS: dict[str, dict[str, str]] = {
    "2026-09": {"beneficiary": "Example Corp, {entity}"},
    "2026-10": {},
}
# Whose links expire before anybody pays.
LATE_MONTH = "2026-10"
EXPIRES_AFTER = 2  # seconds
FOLDER = Path(__file__).resolve().parents[2] / ".demo"
STARTED = time.monotonic()


@dataclass
class Line:
    """One purchase, from its link to its certificate."""

    link: dict[str, Any]
    status: str = "not retired"
    certificate: str = ""

    @property
    def retired(self) -> bool:
        return self.status == "retired"


def tell(text: str) -> None:
    """Show progress, with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def tell_more(text: str) -> None:
    tell(f"    {text}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the ledger and the reports are")
    asked = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(f"Stopped by {signal.Signals(_[0]).name}"))
    try:
        lines = run(asked.folder.absolute(), keep=asked.keep)
    except (StackError, PaymentRefused, httpx.HTTPError) as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped before the end; nothing is left running.", file=sys.stderr)
        return 130
    retired = sum(line.retired for line in lines)
    outcome = (
        f"{retired} of {len(lines)} purchases are retired"
        if lines
        else "Nothing was bought: the ledger covers these months already"
    )
    print(
        f"{outcome}, in test mode: the sandbox sells and retires nothing. {time.monotonic() - STARTED:.0f} s in all."
    )
    return 0 if retired == len(lines) else 1


def run(folder: Path, *, keep: bool) -> list[Line]:
    """Start everything, offset and report the months, and stop everything; return what was bought."""
    ledger = folder / "ledger.db"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "emissions.csv"
    file.write_text(EMISSIONS, encoding="utf-8")
    env = {
        "AIRFLOW__CARBONMARK__LEDGER_PATH": str(ledger),
        "AIRFLOW__CARBONMARK__MINIMUM_PAYMENT_USD": "0.50",
    }
    with Stand(API_KEY, tell, env=env, ledger=f"sqlite:///{ledger}") as stand:
        try:
            lines = []
            for month, changes in MONTHS.items():
                conf = {"emissions_file": file.as_uri(), "emissions_format": "codecarbon", "month": month}
                seconds = EXPIRES_AFTER if month == LATE_MONTH else 86_400
                stand.sandbox.control(
                    "PATCH", "switches", {"checkout_layout": "expiry", "checkout_seconds": seconds}
                )
                lines += offset_month(stand, stand.start_month(conf | changes), month)
            pages = stand.report("2026", (folder / "reports").as_uri())
        except RunFailed:
            raise
        except StackError:
            print(stand.airflow.tails(), file=sys.stderr)
            raise
        if lines:
            print_table(lines)
        print(f"Ledger:   {ledger}")
        for page in pages:
            print(f"Report:   {page}")
        print()
        if keep:
            wait_for_person(stand, lines)
        tell("Stopping everything")
    return lines


def offset_month(stand: Stand, run_id: str, month: str) -> list[Line]:
    """Pay each link of a run as a person would, and return what the run ended with."""
    lines = [Line(link) for link in stand.links(run_id)]
    tell(
        f"{MONTHLY_OFFSET}: {month}, {len(lines)} {'link waits' if len(lines) == 1 else 'links wait'} to be paid"
    )
    for row in stand.ledger.lines(month=month):
        if row.state is State.RESTATED and row.reason:
            tell_more(f"{row.emitted_tonnes:f} t of {row.entity} are {row.reason}")
    for line in lines:
        pay_or_decline(stand, run_id, line)
    stand.expect_success(MONTHLY_OFFSET, run_id, tell=tell_more)
    retired = {bought["purchase"]: bought for bought in stand.retired(run_id)}
    for line in lines:
        if found := retired.get(line.link["purchase"]):
            line.status = "retired"
            line.certificate = found["certificate_url"] or found["transaction_hash"]
    return lines


def pay_or_decline(stand: Stand, run_id: str, line: Line) -> None:
    """Pay a link; one that a demo before left unpaid died with its sandbox, and is declined, so that the next plan buys it anew."""
    link = stand.ledger.purchase(line.link["purchase"]).link
    url = str(link and link.url)
    if url.startswith(stand.sandbox.url):
        if line.link["months"][-1] == LATE_MONTH:
            url = after_expiry(stand, line)
        paid = pay(url)
        tell(f"Paid for {line.link['for_whom']}: the browser came back to Airflow, which says “{paid.title}”")
        return
    index = stand.links(run_id).index(line.link)
    payment = (MONTHLY_OFFSET, run_id, "purchase.payment")
    api = stand.airflow.api
    stand.airflow.answer_parked(lambda: api.answer(*payment, "Decline", map_index=index), *payment, index)
    line.status = "declined"
    tell(
        f"Declined for {line.link['for_whom']}: its link is from a demo that was stopped. Run the demo once more"
    )


def after_expiry(stand: Stand, line: Line) -> str:
    """Wait until a link has expired, say at the pay address that nobody paid, and return the page that this leads to."""
    address = line.link["checkout"]["pay_url"]
    wait_until(lambda: is_expired(address), what="the link to expire", timeout=60)
    tell(f"The link for {line.link['for_whom']} has expired unpaid: asking its pay address for another")
    stand.sandbox.control("PATCH", "switches", {"checkout_seconds": 86_400})
    return next_page(address)


def print_table(lines: list[Line]) -> None:
    """Print one row per purchase; long addresses shortened to their last part."""
    heads = ("for", "tonnes", "cost", "link", "status", "certificate")
    rows = [
        (
            line.link["for_whom"],
            f"{line.link['quantity_tonnes']} t",
            f"{Decimal(line.link['cost_usd']):.6f} USD",
            shortened(line.link["checkout"]["checkout_url"]),
            line.status,
            shortened(line.certificate),
        )
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print()
    for row in (heads, tuple("-" * width for width in widths), *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def shortened(address: str) -> str:
    """Return an address's path, its middle left out."""
    path = address.removeprefix("http://").partition("/")[2]
    return path if len(path) <= 30 else f"/{path[:18]}…{path[-8:]}"


def wait_for_person(stand: Stand, lines: list[Line]) -> None:
    """Say where to look, and wait for Ctrl-C."""
    for line in lines:
        print(f"{line.link['for_whom']}: {line.link['checkout']['checkout_url']}\n    {line.certificate}")
    print(
        f"\nAirflow:      {stand.airflow.url} (no password)"
        f"\nSandbox:      {stand.sandbox.url}/docs"
        f"\nAIRFLOW_HOME: {stand.airflow.home} (logs of the processes in processes/)"
        "\nStop with Ctrl-C.",
        flush=True,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
