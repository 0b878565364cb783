"""What planning the purchases of a month costs, and how that grows with the entities and with the market."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tests.benchmarks.measured import Row, compare, in_turn, run, run_measured, scratch

ENTITIES, FEWER_ENTITIES = 10_000, 1_000
LISTINGS, FEWER_LISTINGS = 700, 70
ROUNDS = 3
# Of the time, when either becomes ten times as much: linear, and a half for the borders between offers, at which the solver decides.
MAX_GROWTH = "≤ 15"
WORST = "ours ≤ 10 s"  # on the worst market


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
FEWER_APART = APART._replace(entities=FEWER_ENTITIES)
LESS_CHOICE = APART._replace(listings=FEWER_LISTINGS)
SIDES = (APART, FEWER_APART, LESS_CHOICE, TOGETHER, STOCKED, LOTS)


def main() -> list[Row]:
    """Compare entities that are bought apart with those that are bought together, and with a tenth of them and of the listings."""
    with scratch() as folder:
        sides = {side: partial(run_measured, folder, "planning_process", *side) for side in SIDES}
        found = in_turn("planning", ROUNDS, sides)
    apart = "61 of them with supply, a purchase each"
    return [
        compare(
            f"Planning {ENTITIES:,} entities over {LISTINGS} listings, {what}: CPU time",
            found[side]["seconds"],
            found[other]["seconds"],
            "{:.3f} s",
            f"ours, {name}",
            target,
        )
        for what, side, other, name, target in (
            ("bought together", TOGETHER, APART, "a purchase each", ""),
            (apart, APART, FEWER_APART, f"{FEWER_ENTITIES:,} entities", MAX_GROWTH),
            (apart, APART, LESS_CHOICE, f"{FEWER_LISTINGS} listings", MAX_GROWTH),
            ("all of them with supply", STOCKED, APART, "61 of them with supply", ""),
            ("that never fit (see `planning_process.py`)", LOTS, STOCKED, "listings that do", WORST),
        )
    ]


if __name__ == "__main__":
    run(main)
