"""What planning the purchases of a month costs, and how that grows with the entities and with the market."""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

ENTITIES, FEWER_ENTITIES = 10_000, 1_000
LISTINGS, FEWER_LISTINGS = 700, 70
ROUNDS = 3
# Of the time, when either becomes ten times as much: linear, and a half for the borders between offers, at which the solver decides.
MAX_GROWTH = 15
MAX_SECONDS = 10  # on the worst market


class Side(NamedTuple):
    """
    What one process plans.

    :param texts: ``together`` or ``apart``: whether the certificates tell the entities apart.
    :param market: see ``planning_process.market_of``.
    """

    texts: str
    market: str
    entities: int
    listings: int


APART = Side("apart", "seen", ENTITIES, LISTINGS)
TOGETHER = APART._replace(texts="together")
STOCKED = APART._replace(market="stocked")
LOTS = APART._replace(market="lots")
SIDES = (
    APART,
    APART._replace(entities=FEWER_ENTITIES),
    APART._replace(listings=FEWER_LISTINGS),
    TOGETHER,
    STOCKED,
    LOTS,
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
    """Compare entities that are bought apart with those that are bought together, and with a tenth of them and of the listings."""
    found = measure()
    title = f"{ENTITIES:,} entities over {LISTINGS} listings"

    def row(
        what: str, side: Side, other: Side, name: str, target: str = "", *, holds: bool | None = None
    ) -> Row:
        ratio = found[side] / found[other]
        ours, theirs = f"{found[side]:.3f} s", f"{found[other]:.3f} s (ours, {name})"
        return Row(f"Planning {title}, {what}: CPU time", ours, theirs, ratio, target, holds)

    def growth(side: Side, name: str) -> Row:
        what = "61 of them with supply, a purchase each"
        return row(what, APART, side, name, f"≤ {MAX_GROWTH}", holds=found[APART] / found[side] <= MAX_GROWTH)

    worst = found[LOTS] <= MAX_SECONDS
    return [
        row("bought together", TOGETHER, APART, "a purchase each"),
        growth(APART._replace(entities=FEWER_ENTITIES), f"{FEWER_ENTITIES:,} entities"),
        growth(APART._replace(listings=FEWER_LISTINGS), f"{FEWER_LISTINGS} listings"),
        row("all of them with supply", STOCKED, APART, "61 of them with supply"),
        row(
            "that never fit (see `planning_process.py`)",
            LOTS,
            STOCKED,
            "listings that do",
            f"ours ≤ {MAX_SECONDS} s",
            holds=worst,
        ),
    ]


if __name__ == "__main__":
    print(render(main()))
