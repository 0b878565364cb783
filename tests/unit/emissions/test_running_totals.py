"""Running totals: by how much each grew within the month, in any order of rows, or why nobody can tell."""

from __future__ import annotations

import io
import random
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.emissions import CODECARBON, EmissionsColumns, EmissionsError, running
from tests.unit.emissions.conftest import problem as problem_of, read, tonnes as tonnes_of

METERS = EmissionsColumns(
    period="when", entity="who", amount="total", unit="kg", running_total_of="meter", part_of_total="part"
)


def meters(*rows: str) -> str:
    return "\n".join(["when,who,meter,total,part", *rows])


def tonnes(*rows: str, **how: str) -> dict[str, str]:
    return tonnes_of(meters(*rows), METERS, **how)


def problem(*rows: str) -> str:
    return problem_of(meters(*rows), METERS)


@st.composite
def runs(draw):
    """Runs of several entities over three months: rows, and what each entity emitted in October, in exact tonnes."""
    expected: dict[str, Fraction] = {}
    rows = []
    grams = st.integers(0, 10**9)
    for number in range(draw(st.integers(1, 4))):
        who = draw(st.sampled_from("ab"))
        total = before = now = 0
        is_within = False
        growth = draw(st.lists(st.tuples(st.integers(0, 91), grams), min_size=1, max_size=12))
        for days, grown in sorted(growth):
            moment = datetime(2026, 9, 1) + timedelta(days=days)
            total += grown
            if moment < datetime(2026, 10, 1):
                before = total
            if moment < datetime(2026, 11, 1):
                now = total
            is_within |= moment.month == 10
            rows.append(f"{moment.isoformat()},{who},m{number},{Decimal(total).scaleb(-3)},")
        if is_within:
            expected[who] = expected.get(who, Fraction(0)) + Fraction(now - before, 10**6)
    return rows, expected


made_runs = runs().filter(lambda made: made[1])
chances = st.randoms(use_true_random=False)


@given(made_runs, chances, st.integers(1, 3))
def test_growth_is_what_exact_fractions_give_in_any_order_and_any_split_over_files(made, chance, pieces):
    rows, expected = made
    chance.shuffle(rows)
    parts = [rows[number::pieces] for number in range(min(pieces, len(rows)))]
    emissions = read([io.BytesIO(meters(*part).encode()) for part in parts], METERS)
    assert {one.entity: Fraction(one.emitted_tonnes) for one in emissions} == expected


@given(made_runs, chances, st.booleans())
def test_of_more_points_than_are_kept_none_is_taken_for_another(made, chance, in_order):
    rows, expected = made
    if not in_order:
        chance.shuffle(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_POINTS_KEPT", 2)
        try:
            found = {one.entity: Fraction(one.emitted_tonnes) for one in read(meters(*rows), METERS)}
        except EmissionsError as error:
            assert "sort the table by time" in str(error)  # noqa: PT017
            found = {} if in_order else expected
    assert found == expected


def test_a_large_table_in_the_order_of_time_needs_memory_for_its_runs_only(monkeypatch):
    monkeypatch.setattr(running, "_POINTS_KEPT", 100)
    start = datetime(2026, 10, 1)
    rows = [
        f"{(start + timedelta(seconds=number)).isoformat()},e{number % 7},{number % 7},{number // 7},"
        for number in range(3_507)
    ]
    assert set(tonnes(*rows).values()) == {"0.5"}
    random.Random(1).shuffle(rows)
    assert "sort the table by time" in problem(*rows)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), chances)
def test_a_total_that_falls_is_refused_in_any_order_of_rows(totals, chance):
    rows = [f"2026-10-01T{hour:02}:00:00,a,m,{total}," for hour, total in enumerate(totals)]
    chance.shuffle(rows)
    if totals == sorted(totals):
        assert tonnes(*rows) == {"a": f"{totals[-1] / 1000:g}"}
    else:
        assert "the running total of meter 'm' falls from" in problem(*rows)


def test_a_run_that_falls_over_the_end_of_a_month_is_refused_in_the_later_one():
    rows = ["2026-09-30T23:00:00,a,m,300,", "2026-10-01T01:00:00,a,m,100,"]
    assert "falls from 0.300 t to 0.100 t" in problem(*rows)
    assert tonnes(*rows, month="2026-09") == {"a": "0.3"}


def test_times_with_zones_are_put_in_order_by_the_zone_and_never_mixed_with_others():
    rows = ["2026-10-25T02:30:00+02:00,a,m,100,", "2026-10-25T02:10:00+01:00,a,m,120,"]
    assert tonnes(*rows) == {"a": "0.12"}
    assert "have a zone: write all with one" in problem(*rows, "2026-10-26T00:00:00,a,m,130,")


def test_a_file_may_be_there_twice_if_it_has_nothing_but_totals():
    def twice(*rows: str) -> list[io.BytesIO]:
        return [io.BytesIO(meters(*rows).encode()) for _ in range(2)]

    total = "2026-10-01T00:00:00,a,m,100,"
    (only,) = read(twice(total), METERS)
    assert (only.emitted_tonnes, [file.rows for file in only.files]) == (Decimal("0.1"), [1, 1])
    for other in ("2026-10-01T00:00:00,a,,100,", "2026-10-01T00:00:00,a,n,100,load"):
        message = problem_of(twice(total, other), METERS, optional=frozenset({"meter"}))
        assert "byte for byte, and its rows would count twice" in message


def test_a_run_of_two_entities_is_refused():
    message = problem("2026-10-01T00:00:00,a,m,100,", "2026-10-02T00:00:00,b,m,200,")
    assert "line 3: column 'meter' is 'm', which is of 'a' in an earlier row and of 'b' here" in message


def test_a_run_that_has_nothing_in_the_month_neither_counts_nor_bothers():
    others = ["2026-09-01T00:00:00,b,n,200,", "2026-09-02T00:00:00,b,n,?,", "2026-09-03T00:00:00,c,n,1,"]
    assert tonnes(*others, "2026-10-01T00:00:00,a,m,100,", "2026-11-01T00:00:00,a,m,?,") == {"a": "0.1"}
    assert "line 3: column 'total' is '?'" in problem(*others, "2026-10-01T00:00:00,b,n,300,")


def test_a_total_without_a_name_is_refused_but_in_codecarbons_old_rows_and_files():
    assert "column 'meter' is ''" in problem("2026-10-01T00:00:00,a,,100,")
    for header, run in (
        ("timestamp,project_name,run_id,emissions", ","),
        ("timestamp,project_name,emissions", ""),
    ):
        old = "\n".join([header, *[f"2026-10-01T00:00:00,a,{run}100"] * 2])
        assert tonnes_of(old, CODECARBON) == {"a": "0.2"}
    assert "has no column 'run'" in problem_of(old, CODECARBON, running_total_of="run")


@pytest.mark.parametrize(
    ("rows", "september", "october"),
    [
        (["2026-09-30T00:00:00,a,m,120,load", "2026-10-02T00:00:00,a,m,180,fit"], "0.12", "0.18"),
        (["2026-10-02T00:00:00,a,m,300,"], None, "0.3"),
        (
            [
                "2026-09-30T00:00:00,a,m,120,load",
                "2026-10-02T00:00:00,a,m,180,fit",
                "2026-10-02T00:00:00,a,m,300,",
            ],
            "0.12",
            "0.18",
        ),
        (["2026-10-02T00:00:00,a,m,180,fit", "2026-10-02T00:00:01,a,m,181,"], None, "0.181"),
        (["2026-10-02T00:00:00,a,m,180,fit", "2026-10-01T00:00:00,a,m,10,"], None, "0.18"),
        # Floats: the parts add up to a trifle more.
        (["2026-10-02T00:00:00,a,m,180.00000000000003,fit", "2026-10-02T00:00:00,a,m,180,"], None, "0.18"),
    ],
    ids=["parts", "total", "both", "total knows of more", "parts know of more", "a rounding error"],
)
def test_parts_of_a_total_count_as_far_as_the_total_does_not_know_of_them(rows, september, october):
    assert tonnes(*rows) == tonnes(*rows[::-1]) == {"a": october}
    if september:
        assert tonnes(*rows, month="2026-09") == {"a": september}


@pytest.mark.parametrize("blank", ["zero", "skip_row"])
def test_a_blank_total_is_no_fall(blank):
    rows = ["2026-10-01T00:00:00,a,m,100,", "2026-10-02T00:00:00,a,m,,", "2026-10-03T00:00:00,a,m,150,"]
    assert tonnes(*rows, blank=blank) == {"a": "0.15"}
    assert 'blank="zero"' in problem(*rows)
