"""What planning the purchases of a month costs, and how that grows with the entities and with the market."""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

ENTITIES, FEWER_ENTITIES = 10_000, 1_000
LISTINGS, FEWER_LISTINGS = 700, 70
ROUNDS = 3
MAX_GROWTH = (
    12  # of the time, when either becomes ten times as much: linear, and a fifth for the noise of short times
)
MAX_SECONDS = 60  # on the worst market


class Side(NamedTuple):
    """
    What one process plans.

    :param how: ``plan``, or ``one_by_one`` as before there were plans.
    :param market: see ``planning_process.market_of``.
    """

    how: str
    market: str
    entities: int
    listings: int


ALL = Side("plan", "seen", ENTITIES, LISTINGS)
SIDES = (
    ALL,
    ALL._replace(entities=FEWER_ENTITIES),
    ALL._replace(listings=FEWER_LISTINGS),
    ALL._replace(market="stocked"),
    ALL._replace(market="stocked", listings=FEWER_LISTINGS),
    ALL._replace(market="lots"),
    Side("one_by_one", "seen", FEWER_ENTITIES, LISTINGS),
)


def measure() -> dict[Side, float]:
    """Run the sides in turn, each in a process of its own; give the least seconds of CPU that each took."""
    rounds: dict[Side, list[float]] = {side: [] for side in SIDES}
    with scratch() as folder:
        for number in range(1, ROUNDS + 1):
            progress(f"planning: round {number} of {ROUNDS}")
            for side, seconds in rounds.items():
                seconds.append(run_measured(folder, "tests.benchmarks.planning_process", *side)["seconds"])
    # The least is what the work itself takes; all above it is what else the machine did.
    return {side: min(seconds) for side, seconds in rounds.items()}


def main() -> list[Row]:
    """Compare with picking a listing for each entity, and with itself on a tenth of the entities and of the listings."""
    found = measure()

    def growth(what: str, larger: Side, smaller: Side, name: str) -> Row:
        ratio = found[larger] / found[smaller]
        return Row(
            f"Planning {what}: CPU time",
            f"{found[larger]:.3f} s",
            f"{found[smaller]:.3f} s (ours, {name})",
            ratio,
            f"≤ {MAX_GROWTH}",
            ratio <= MAX_GROWTH,
        )

    fewer = ALL._replace(entities=FEWER_ENTITIES)
    before = found[fewer._replace(how="one_by_one")]
    worst = found[ALL._replace(market="lots")]
    stocked = ALL._replace(market="stocked")
    title = f"{ENTITIES:,} entities over {LISTINGS} listings"
    return [
        Row(
            f"Planning {FEWER_ENTITIES:,} entities over {LISTINGS} listings: CPU time",
            f"{found[fewer]:.2f} s",
            f"{before:.2f} s (`cheapest_listing` for each)",
            found[fewer] / before,
        ),
        growth(f"{title}, 61 of them with supply", ALL, fewer, f"{FEWER_ENTITIES:,} entities"),
        growth(
            f"{title}, 61 of them with supply",
            ALL,
            ALL._replace(listings=FEWER_LISTINGS),
            f"{FEWER_LISTINGS} listings",
        ),
        growth(
            f"{title}, all of them with supply",
            stocked,
            stocked._replace(listings=FEWER_LISTINGS),
            f"{FEWER_LISTINGS} listings",
        ),
        Row(
            f"Planning {title} that never fit (see `planning_process.py`): CPU time",
            f"{worst:.1f} s",
            f"{found[stocked]:.2f} s (ours, on listings that do)",
            worst / found[stocked],
            f"ours ≤ {MAX_SECONDS} s",
            worst <= MAX_SECONDS,
        ),
    ]


if __name__ == "__main__":
    print(render(main()))
