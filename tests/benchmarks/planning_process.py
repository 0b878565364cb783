"""The measured process of the planning: `python -m tests.benchmarks.planning_process apart|together <market> <entities> <listings>`."""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal

from airflow_provider_carbonmark.api.models import Listing
from airflow_provider_carbonmark.emissions import EntityEmissions
from airflow_provider_carbonmark.ledger.values import Coverage
from airflow_provider_carbonmark.planning import plan_purchases
from airflow_provider_carbonmark.planning.dedication import Dedication

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
MONTH = "2026-10"
DEDICATIONS = {
    "apart": Dedication("Example Corp, {entity}", "Emissions of {months}: {emitted_tonnes} t CO2e"),
    "together": Dedication("Example Corp", "Emissions of {months}"),
}
REGISTRIES = (("VCS", 578), ("CMARK", 42), ("ICR", 40), ("TVER", 35), ("ECO", 2))
SHARE_WITH_SUPPLY = 61 / 700


def emissions_of(entities: int, kind: str) -> list[EntityEmissions]:
    """Make up emissions of up to 50 t, or of 13.5 to 14.5 t where they are to be hard to fill from lots."""
    chance = random.Random(20261021)
    least, most = (13_500_000, 14_500_000) if kind == "lots" else (1, 50_000_000)
    found = []
    for number in range(entities):
        grams = chance.randint(least, most)
        offset = Decimal(-(-grams // 1000)).scaleb(-3)
        found.append(EntityEmissions(f"entity-{number:05}", MONTH, Decimal(grams).scaleb(-6), offset))
    return found


def market_of(kind: str, listings: int, needed: Decimal) -> list[Listing]:
    """
    Make a market that has half as much again as is needed.

    :param kind: ``seen``: prices, vintages, registries, minimum fills and how many have any supply as on 14 August 2026.
        ``stocked``: all have supply. ``lots``: 5 to 9.9 t each, sold whole or not at all, which hardly ever sum to what
        is needed; only the dearest sells anything from 10 t on. So nearly every search comes to its last step.
    """
    chance = random.Random(20260814)
    registries = [name for name, count in REGISTRIES for _ in range(count)]
    stocked = round(listings * SHARE_WITH_SUPPLY) if kind == "seen" else listings
    average = float(needed * 1500) / stocked
    found = []
    for number in range(listings):
        kilograms = average * chance.uniform(0.5, 1.5) if number < stocked else 0
        least = Decimal("0.001")
        # Median 3.78, from 0.10 to 982.59.
        price = round(min(982.59, max(0.1, chance.lognormvariate(1.33, 1.5))), 2)
        if kind == "lots":
            kilograms = chance.randint(5_000, 9_900)
            least = Decimal(kilograms).scaleb(-3)
        supply = Decimal(int(kilograms)).scaleb(-3)
        found.append(
            Listing(
                source_id=f"listing-137-0x{chance.getrandbits(160):040x}",
                type="listing",
                purchase_price=Decimal(str(price)),
                supply=supply,
                liquid_supply=supply,
                min_fill_amount=least,
                project_id=f"{chance.choice(registries)}-{number}",
                vintage=chance.randint(2008, 2025),
                is_ex_ante=False,
            )
        )
    if kind == "lots":
        rest = {"purchase_price": Decimal(1000), "liquid_supply": needed, "min_fill_amount": Decimal(10)}
        found[-1] = found[-1].model_copy(update=rest)
    return found


def main(texts: str, kind: str, entities: int, listings: int) -> None:
    emissions = emissions_of(entities, kind)
    market = market_of(kind, listings, sum((one.offset_tonnes for one in emissions), Decimal(0)))
    about = {"dedication": DEDICATIONS[texts], "minimum_payment_usd": Decimal("0.50"), "now": NOW}
    started = time.process_time()
    plan_purchases(emissions, Coverage(), market, **about)
    print(json.dumps({"seconds": time.process_time() - started}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
