"""The problem as HiGHS takes it: a mixed-integer program, over tonnes and USD. What comes back is made whole numbers again, and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import highspy

from airflow_provider_carbonmark.planning.problem import TONNE, Filling, Problem, rounded_up

#: Seconds. What is found until then is taken, with the gap that is left.
LONGEST_SEARCH: Final = 5.0

_INFINITY: Final = highspy.kHighsInf
_USD: Final = 1e9  # billionths
# Of two that cost the same the one with fewer payments is better: a payment counts for so many USD.
_PAYMENT_USD: Final = 1e-7


def improve(problem: Problem, known: Filling | None) -> tuple[Filling | None, int | None]:
    """
    Search for a filling that is cheaper than one that is known.

    :return: the best of both; and what none can cost less than, None where there is no filling at all.
    """
    solver = _solver()
    parts: dict[tuple[int, int], int] = {}  # amount and offer → the column of the tonnes of it
    is_part: dict[tuple[int, int], int] = {}
    in_tonnes: dict[int, int] = {}  # amount → the column that says whether it is rounded up
    sold: dict[int, list[tuple[int, float]]] = {}  # offer → what is bought of it
    for at, amount in enumerate(problem.amounts):
        usable = [*problem.usable(amount)]
        if amount % TONNE and any(problem.offers[number].step > 1 for number in usable):
            in_tonnes[at] = _column(solver, 0, 1, is_whole=True)
        for number in usable:
            offer = problem.offers[number]
            most = min(offer.high, rounded_up(amount) if offer.step > 1 else amount)
            # By the tonne, a column counts whole tonnes.
            column = _column(solver, offer.price * TONNE / _USD, most / TONNE, is_whole=offer.step > 1)
            chosen = _column(solver, _PAYMENT_USD, 1, is_whole=True)
            _row(solver, 0, [(column, 1), (chosen, -offer.low / TONNE)], _INFINITY)
            _row(solver, -_INFINITY, [(column, 1), (chosen, -most / TONNE)], 0)
            if at in in_tonnes and offer.step == 1:
                _row(solver, -_INFINITY, [(chosen, 1), (in_tonnes[at], 1)], 1)
            parts[at, number], is_part[at, number] = column, chosen
            sold.setdefault(number, []).append((column, 1))
        extra = (rounded_up(amount) - amount) / TONNE
        terms = [(parts[at, number], 1.0) for number in usable]
        if at in in_tonnes:
            terms.append((in_tonnes[at], -extra))
        _row(solver, amount / TONNE, terms, amount / TONNE)
    for number, terms in sorted(sold.items()):
        _row(solver, -_INFINITY, terms, problem.offers[number].high / TONNE)
    for budget in problem.budgets:
        counted = [
            (column, float(share) * problem.offers[number].price * TONNE / _USD)
            for (at, number), column in parts.items()
            if (share := budget.shares.get(at))
        ]
        if counted:
            _row(solver, -_INFINITY, counted, float(budget.most) / _USD)
    # Not led by what is known: seen (HiGHS 1.16), it then called optimal what was not, at a cost that it had not.
    solver.run()
    if solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return (known, 0) if known is not None else (None, None)
    info = solver.getInfo()
    is_bound = math.isfinite(info.mip_dual_bound)
    bound = math.floor((info.mip_dual_bound - _PAYMENT_USD * len(is_part)) * _USD) if is_bound else 0
    if info.primal_solution_status != highspy.kSolutionStatusFeasible.value:
        return known, bound
    found = _whole(problem, parts, solver.getSolution().col_value)
    if not (problem.is_filling(found) and problem.is_within_budgets(found)):
        return known, 0
    return (found if known is None else min(found, known, key=problem.cost)), bound


def _solver() -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "time_limit": LONGEST_SEARCH,
        "mip_rel_gap": 1e-6,
        # What a choice lets through while it counts as not made: a milligram of the largest purchase.
        "mip_feasibility_tolerance": 1e-9,
        "primal_feasibility_tolerance": 1e-9,
    }.items():
        solver.setOptionValue(option, value)
    return solver


def _column(solver: highspy.Highs, cost: float, upper: float, *, is_whole: bool) -> int:
    """Add a column of zero or more, and return its number."""
    number: int = solver.getNumCol()
    solver.addCol(cost, 0, upper, 0, [], [])
    if is_whole:
        solver.changeColIntegrality(number, highspy.HighsVarType.kInteger)
    return number


def _row(solver: highspy.Highs, lower: float, terms: Sequence[tuple[int, float]], upper: float) -> None:
    """Add a row: the sum of columns, so many times each, and what it is between."""
    columns, values = [column for column, _ in terms], [value for _, value in terms]
    solver.addRow(lower, upper, len(terms), columns, values)


def _whole(problem: Problem, parts: dict[tuple[int, int], int], values: Sequence[float]) -> Filling:
    """Make kilograms of the solver's tonnes."""
    filling: list[list[tuple[int, int]]] = [[] for _ in problem.amounts]
    for (at, number), column in parts.items():
        step = problem.offers[number].step
        if kilograms := round(values[column] * TONNE / step) * step:
            filling[at].append((number, kilograms))
    return filling
