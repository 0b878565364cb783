"""What is added up: units, periods, names, versions of the model, and sums without a rounding error."""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.emissions import AWS
from airflow_provider_carbonmark.emissions.sums import stated_emissions
from tests.unit.emissions.conftest import OWN, problem, read, row, tonnes

PER_ROW = replace(OWN, unit=None, unit_column="unit")
TONNES = replace(OWN, unit="t")
TONNES_PER_UNIT = {"g": Fraction("1e-6"), "kg": Fraction("1e-3"), "t": 1, "lb": Fraction("0.00045359237")}


def rows(*rows: str) -> str:
    return "\n".join(["when,who,mass,unit", *rows])


@pytest.mark.parametrize(
    ("expected", "units"),
    [
        ("0.000001", "g, Grams, gCO2e"),
        ("0.001", "kg, KG, kgCO2e, kg CO2e, kgCO2, kg CO2-eq, kg_CO₂e, kilograms, kg of CO2e"),
        ("1", "t, T, tCO2e, tonnes, metric tons, MT, MTCO2e, MT CO2e, mtCO2e, t CO2 eq., t CO2 equivalent"),
        ("0.00045359237", "lb, LBS, pounds, lb CO2e"),
    ],
)
def test_units_are_read_in_their_usual_spellings(expected, units):
    for unit in units.split(", "):
        assert (unit, tonnes([row(unit=unit)], PER_ROW)) == (unit, {"a": expected})


@pytest.mark.parametrize(
    "unit", [*"Mt mt MtCO2e ton tons kgC kg/kWh mg CO2e".split(), "tons CO2e", "", "x" * 500]
)
def test_other_units_are_refused_with_row_and_remedy(unit):
    message = problem(rows("2026-10,a,1,t", f"2026-10,a,1,{unit}"), PER_ROW)
    assert "line 3: column 'unit' is " in message
    assert "accepted are g, kg, t" in message


@pytest.mark.parametrize(
    "period",
    [
        *("2026-10", "2026-10-01", "2026-10-31T23:59:59.123456", "2026-10-31T23:59:59Z"),
        *("2026-10-31 23:59:59 UTC", "2026-10-31T23:30+02:00", "2026-10-31T23:30:00-0500"),
    ],
)
def test_a_period_belongs_to_the_month_it_is_written_in(period):
    assert tonnes([row(when=period)], TONNES) == {"a": "1"}


@pytest.mark.parametrize(
    "period", ["", *"2026-13 2026-1 2026-10x 2026-10-01T 2026-02-30 10/2026 202610 NaT October".split()]
)
def test_other_periods_are_refused_in_whatever_month(period):
    message = problem([row(), row(when=period)])
    assert message.startswith("row 2: column 'when' is ")
    assert "write 2026-10, 2026-10-01 or" in message


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "2026-10-01", "", None, "२०२६-१०"])
def test_the_month_asked_for_is_checked(month):
    message = problem([row()], TONNES, month)
    assert message.startswith("month is ")
    assert "write YYYY-MM" in message


def test_rows_of_other_months_are_not_counted_and_their_amounts_not_read():
    source = rows("2026-09,a,broken,t", "2026-10,a,1,t", "2026-11,a,1,furlong")
    assert tonnes(source, PER_ROW) == {"a": "1"}


def spans(start: str, end: str) -> list[dict[str, object]]:
    return [row(when=start, to=end), row(when="2026-10-01", to="2026-10-31", who="b")]


SPANS = replace(OWN, period_end="to")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *(("2026-10-01 00:00:00Z", "2026-10-31 23:59:59Z"), ("2026-10-01", "2026-11-01")),
        *(("2026-10-05", "2026-10-05"), ("2026-10", "2026-10")),
        ("2026-10-31T22:00:00+01:00", "2026-11-01T00:00:00+01:00"),
    ],
)
def test_a_row_within_a_month_counts(start, end):
    assert set(tonnes(spans(start, end), SPANS)) == {"a", "b"}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *(("2026-10-01", "2026-12-31"), ("2026-08-01", "2026-10-31"), ("2026-01-01", "2026-12-31")),
        *(("2026-10", "2026-12"), ("2026-10-01", "2027-01-01")),
        *(("2026-10-01", "2026-09-30"), ("2026-11-01", "2026-10-31")),
    ],
)
def test_a_row_of_several_months_is_refused_with_its_dates(start, end):
    says = f"row 1: columns 'when' and 'to' are {start!r} and {end!r}: not within one month"
    assert says in problem(spans(start, end), SPANS)


def test_a_row_of_other_months_does_not_matter_and_an_end_is_needed_but_where_it_is_optional():
    assert set(tonnes(spans("2026-01-01", "2026-03-31"), SPANS)) == {"b"}
    assert "row 1: column 'to' is ''" in problem(spans("2026-10-01", ""), SPANS)
    assert set(tonnes(spans("2026-10-01", ""), SPANS, optional=frozenset({"to"}))) == {"a", "b"}


@pytest.mark.parametrize("name", ["nan", "NaN", "None", "NaT", "<NA>", " nan ", "", "  ", None, float("nan")])
def test_an_entity_that_is_empty_or_that_pandas_made_of_null_is_none(name):
    assert tonnes([row(who=name)], TONNES, no_entity="?") == {"?": "1"}


@pytest.mark.parametrize("name", ["222222222222.0", 222222222222.0, "2.22222E+11", "2E+11", "7.0"])
def test_an_entity_that_a_program_took_for_a_number_is_refused(name):
    assert "a name that a program took for a number" in problem([row(who=name)])


@pytest.mark.parametrize("name", ["222222222222", 7, "v1.0", "1.0.0", "2e10", "nano"])
def test_other_names_with_digits_are_names(name):
    assert tonnes([row(who=name)], TONNES) == {str(name): "1"}


@pytest.mark.parametrize(
    "spelled",
    [
        *("Zu\u0308rich Lab", "Zürich\u00a0Lab", "\u200bZürich  Lab\ufeff", " Zürich\u2009Lab "),
        *("\u202aZürich Lab\u202c\u200e", "Zu\u00ad\u0308rich Lab"),
    ],
)
def test_an_entity_has_one_name_however_it_is_encoded(spelled):
    assert tonnes([row(who="Zürich Lab"), row(who=spelled)], TONNES) == {"Zürich Lab": "2"}
    (stated,) = stated_emissions([{"entity": spelled, "month": "2026-10", "emitted_tonnes": "1"}])
    assert stated.entity == "Zürich Lab"


def versions(*rows: tuple[str, str, float]) -> list[dict[str, object]]:
    return [
        {
            "model_version": version,
            "usage_account_id": account,
            "total_mbm_emissions_value": mass,
            "total_mbm_emissions_unit": "MTCO2e",
            "usage_period_start": "2026-10-01",
        }
        for account, version, mass in rows
    ]


def test_each_entity_counts_by_its_newest_version_and_one_that_has_only_another_by_that(caplog):
    found = versions(("a", "v9.1", 1), ("a", "v10.0", 2), ("a", "v10.0", 3), ("b", "v9.1", 7))
    assert [(one.entity, one.source, one.version, one.emitted_tonnes) for one in read(found, AWS)] == [
        ("a", "AWS", "v10.0", 5),
        ("b", "AWS", "v9.1", 7),
    ]
    assert "version v10.0 counts, and version v9.1 does not, for 1 entities" in caplog.text
    assert "not all entities have the same version: v10.0, v9.1" in caplog.text
    assert "'b' has rows of 'model_version' 'v9.1' for 2026-10, none of 'v10.0': choose another" in problem(
        found, AWS, version="v10.0"
    )


@pytest.mark.parametrize("pair", [("v3.0", "v3.0.0"), ("14", "14.0"), ("v3", "beta"), ("v3", "")])
def test_of_versions_that_have_no_order_none_is_chosen(pair):
    found = versions(*(("a", version, 1) for version in pair))
    assert "none is plainly the newest: name one" in problem(found, AWS)
    assert tonnes(found, AWS, version=pair[0]) == {"a": "1"}


@pytest.mark.parametrize("amounts", [["-1"], ["0"], ["0.5", "-0.5"], ["-0"]])
def test_a_total_that_is_not_positive_buys_nothing_and_says_so(caplog, amounts):
    caplog.set_level(logging.INFO)
    nothing, something = read([*(row(mass=amount) for amount in amounts), row(who="b")], TONNES)
    assert (nothing.offset_tonnes, nothing.emitted_tonnes) == (0, sum(map(Decimal, amounts)))
    assert something.offset_tonnes == 1
    assert [message for message in caplog.messages if message.startswith("a emitted")] == [
        f"a emitted {nothing.emitted_tonnes} t in 2026-10: a total that is not positive buys no offset"
    ]


def test_the_callers_decimal_context_is_neither_used_nor_changed():
    def given_rows():
        assert Decimal(1) / 3 == Decimal("0.33")
        yield row(mass="1.23456789")
        assert Decimal(1) / 3 == Decimal("0.33")

    with localcontext(prec=2):
        (only,) = read(given_rows(), TONNES)
    assert (str(only.emitted_tonnes), str(only.offset_tonnes)) == ("1.23456789", "1.235")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from(sorted(TONNES_PER_UNIT)),
            st.floats(allow_nan=False, allow_infinity=False)
            | st.decimals(-(10**18), 10**18, allow_nan=False, places=12)
            | st.integers(-(10**30), 10**30),
        ),
        min_size=1,
    )
)
def test_sums_are_what_exact_fractions_give(made):
    expected: dict[str, Fraction] = {}
    for who, unit, mass in made:
        exact = Fraction(repr(mass) if isinstance(mass, float) else mass)
        expected[who] = expected.get(who, Fraction(0)) + exact * TONNES_PER_UNIT[unit]
    emissions = read([row(who=who, mass=mass, unit=unit) for who, unit, mass in made], PER_ROW)
    assert emissions == read(rows(*(f"2026-10,{who},{mass},{unit}" for who, unit, mass in made)), PER_ROW)
    assert {one.entity: Fraction(one.emitted_tonnes) for one in emissions} == expected
    for one in emissions:
        exact, offset = expected[one.entity], Fraction(one.offset_tonnes)
        assert offset == (-(-exact * 1000 // 1) / Fraction(1000) if exact > 0 else 0)
