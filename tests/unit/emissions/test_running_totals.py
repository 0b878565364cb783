from __future__ import annotations

import io
import random
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.emissions import (
    CODECARBON,
    EmissionsColumns,
    EmissionsError,
    emissions_of_month,
    running,
)

METERS = EmissionsColumns(
    period="when", entity="who", amount="total", unit="kg", running_total_of="meter", part_of_total="part"
)
HEADER = "when,who,meter,total,part\n"
NOW = "2026-10"


def csv_file(*rows: str) -> io.BytesIO:
    return io.BytesIO((HEADER + "".join(f"{row}\n" for row in rows)).encode())


def tonnes(*rows: str, columns: EmissionsColumns = METERS, month: str = NOW) -> dict[str, str]:
    emissions = emissions_of_month(csv_file(*rows), columns, month)
    return {one.entity: f"{one.emitted_tonnes.normalize():f}" for one in emissions}


def problem(*rows: str, month: str = NOW) -> str:
    with pytest.raises(EmissionsError) as caught:
        tonnes(*rows, month=month)
    return str(caught.value)


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
        for days, grown in sorted(
            draw(st.lists(st.tuples(st.integers(0, 91), grams), min_size=1, max_size=12))
        ):
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


@given(runs(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_growth_is_what_exact_fractions_give_in_any_order_and_any_split_over_files(made, chance, pieces):
    rows, expected = made
    chance.shuffle(rows)
    if not expected:
        return
    files = [csv_file(*rows[number::pieces]) for number in range(min(pieces, len(rows)))]
    emissions = emissions_of_month(files, METERS, NOW)
    assert {one.entity: Fraction(one.emitted_tonnes) for one in emissions} == expected


@given(runs(), st.randoms(use_true_random=False), st.booleans())
def test_of_more_points_than_are_kept_none_is_taken_for_another(made, chance, in_order):
    rows, expected = made
    if not in_order:
        chance.shuffle(rows)
    if not expected:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_POINTS_KEPT", 2)
        refused = ""
        try:
            found = emissions_of_month(csv_file(*rows), METERS, NOW)
        except EmissionsError as error:
            refused = str(error)
    if refused:
        assert not in_order
        assert "sort the table by time" in refused
    else:
        assert {one.entity: Fraction(one.emitted_tonnes) for one in found} == expected


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_a_total_that_falls_is_refused_in_any_order_of_rows(totals, chance):
    rows = [f"2026-10-01T{hour:02}:00:00,a,m,{total}," for hour, total in enumerate(totals)]
    chance.shuffle(rows)
    if totals == sorted(totals):
        assert tonnes(*rows) == {"a": f"{totals[-1] / 1000:g}"}
    else:
        assert "the running total of meter 'm' falls from" in problem(*rows)


@pytest.mark.parametrize(
    ("month", "expected"), [("2026-09", "0.1"), ("2026-10", "0.25"), ("2026-11", "0.05")]
)
def test_a_run_over_the_ends_of_months_counts_in_each_by_what_it_grew(month, expected):
    rows = ["2026-09-30T23:59:59,a,m,100,", "2026-10-01T00:00:00,a,m,200,", "2026-10-31T23:59:59,a,m,350,"]
    assert tonnes(*rows, "2026-11-02T00:00:00,a,m,400,", month=month) == {"a": expected}


def test_a_run_that_falls_over_the_end_of_a_month_is_refused_in_the_later_one():
    rows = ["2026-09-30T23:00:00,a,m,300,", "2026-10-01T01:00:00,a,m,100,"]
    assert "falls from 0.300 t to 0.100 t" in problem(*rows)
    assert tonnes(*rows, month="2026-09") == {"a": "0.3"}


def test_of_totals_at_one_moment_the_largest_is_the_last():
    rows = ["2026-10-01T00:00:00,a,m,310,", "2026-10-01T00:00:00,a,m,300,", "2026-10-01T00:00:01,a,m,310,"]
    assert tonnes(*rows) == tonnes(*rows[::-1]) == {"a": "0.31"}


def test_times_with_zones_are_put_in_order_by_the_zone_and_never_mixed_with_others():
    rows = ["2026-10-25T02:30:00+02:00,a,m,100,", "2026-10-25T02:10:00+01:00,a,m,120,"]
    assert tonnes(*rows) == {"a": "0.12"}
    assert "have a zone: write all with one" in problem(*rows, "2026-10-26T00:00:00,a,m,130,")


def test_a_run_of_two_entities_is_refused():
    message = problem("2026-10-01T00:00:00,a,m,100,", "2026-10-02T00:00:00,b,m,200,")
    assert "line 3: column 'meter' is 'm', which is of 'a' in an earlier row and of 'b' here" in message


def test_a_run_that_has_nothing_in_the_month_neither_counts_nor_bothers():
    others = ["2026-09-01T00:00:00,b,n,200,", "2026-09-02T00:00:00,b,n,?,", "2026-09-03T00:00:00,c,n,1,"]
    assert tonnes(*others, "2026-10-01T00:00:00,a,m,100,", "2026-11-01T00:00:00,a,m,?,") == {"a": "0.1"}
    assert "line 3: column 'total' is '?'" in problem(*others, "2026-10-01T00:00:00,b,n,300,")


def test_a_total_without_a_name_is_refused_but_in_codecarbons_old_rows():
    assert "column 'meter' is ''" in problem("2026-10-01T00:00:00,a,,100,")
    old = io.BytesIO(
        b"timestamp,project_name,run_id,emissions\n2026-10-01T00:00:00,a,,100\n2026-10-01T00:00:00,a,,100\n"
    )
    assert str(emissions_of_month(old, CODECARBON, NOW)[0].emitted_tonnes) == "0.200"


def test_codecarbons_files_without_runs_count_each_row():
    old = io.BytesIO(
        b"timestamp,experiment_id,project_name,duration,emissions\n" + b"2026-10-01T00:00:00,x,a,1,100\n" * 2
    )
    assert str(emissions_of_month(old, CODECARBON, NOW)[0].emitted_tonnes) == "0.200"
    with pytest.raises(EmissionsError, match="has no column 'run'"):
        emissions_of_month(io.BytesIO(old.getvalue()), replace(CODECARBON, running_total_of="run"), NOW)


@pytest.mark.parametrize(
    ("rows", "september", "october"),
    [
        # The parts alone; the total alone; both, with the total written at the end.
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
        # The total knows of more than its parts, and the parts of more than a total that was written before them.
        (["2026-10-02T00:00:00,a,m,180,fit", "2026-10-02T00:00:01,a,m,181,"], None, "0.181"),
        (["2026-10-02T00:00:00,a,m,180,fit", "2026-10-01T00:00:00,a,m,10,"], None, "0.18"),
        # Floats: the parts add up to a trifle more.
        (["2026-10-02T00:00:00,a,m,180.00000000000003,fit", "2026-10-02T00:00:00,a,m,180,"], None, "0.18"),
    ],
)
def test_parts_of_a_total_count_as_far_as_the_total_does_not_know_of_them(rows, september, october):
    assert tonnes(*rows) == tonnes(*rows[::-1]) == {"a": october}
    if september:
        assert tonnes(*rows, month="2026-09") == {"a": september}


@pytest.mark.parametrize("blank", ["zero", "skip_row"])
def test_a_blank_total_is_no_fall(blank):
    rows = ["2026-10-01T00:00:00,a,m,100,", "2026-10-02T00:00:00,a,m,,", "2026-10-03T00:00:00,a,m,150,"]
    assert tonnes(*rows, columns=replace(METERS, blank=blank)) == {"a": "0.15"}
    assert 'blank="zero"' in problem(*rows)


def test_a_large_table_in_the_order_of_time_needs_memory_for_its_runs_only():
    def rows(count: int):
        start = datetime(2026, 10, 1)
        for number in range(count):
            run = number % 7
            when = (start + timedelta(seconds=number)).isoformat()
            yield {"when": when, "who": f"e{run}", "meter": run, "total": number // 7, "part": None}

    found = emissions_of_month(rows(70_007), METERS, NOW)
    assert {one.emitted_tonnes for one in found} == {10}
    shuffled = list(rows(70_007))
    random.Random(1).shuffle(shuffled)
    with pytest.raises(EmissionsError, match="sort the table by time"):
        emissions_of_month(shuffled, METERS, NOW)
