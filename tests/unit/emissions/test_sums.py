from __future__ import annotations

import datetime
import gzip
import io
import logging
import sqlite3
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath
from hypothesis import given, strategies as st

from airflow_provider_carbonmark.emissions import (
    AWS,
    CODECARBON,
    GOOGLE_CLOUD,
    EmissionsColumns,
    EmissionsError,
    EntityEmissions,
    emissions_of_month,
)
from airflow_provider_carbonmark.emissions.columns import AWS_LOCATION_BASED, GOOGLE_CLOUD_LOCATION_BASED

SAMPLES = Path(__file__).parents[3] / "dags" / "data"
OWN = EmissionsColumns(period="when", entity="who", amount="mass", unit_column="unit")
TONNES_PER_UNIT = {
    "g": Fraction(1, 10**6),
    "kg": Fraction(1, 1000),
    "t": Fraction(1),
    "lb": Fraction(45359237, 10**11),
}


def csv_file(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def own_rows(*rows: str) -> io.BytesIO:
    return csv_file("\n".join(["when,who,mass,unit", *rows]))


def offsets(emissions: list[EntityEmissions]) -> dict[str, str]:
    return {one.entity: str(one.offset_tonnes) for one in emissions}


class TestReadySources:
    def test_codecarbon_runs_are_added_up_by_project(self):
        assert emissions_of_month(SAMPLES / "codecarbon-emissions.csv", CODECARBON, "2024-05") == [
            EntityEmissions(
                "aux-reward-model", "2024-05", Decimal("0.00022799894330652132"), Decimal("0.001")
            ),
            EntityEmissions(
                "aux-reward-model-pt", "2024-05", Decimal("0.000016563636840486076"), Decimal("0.001")
            ),
        ]

    def test_google_cloud_is_market_based_and_keeps_what_belongs_to_no_project(self):
        assert offsets(emissions_of_month(SAMPLES / "gcp-carbon-footprint.csv", GOOGLE_CLOUD, "2026-09")) == {
            "(no Google Cloud project)": "0.001",
            "checkout-prod": "1.229",
            "search-prod": "0.254",
        }

    def test_google_cloud_is_location_based_on_request(self):
        emissions = emissions_of_month(
            SAMPLES / "gcp-carbon-footprint.csv", GOOGLE_CLOUD_LOCATION_BASED, "2026-09"
        )
        assert offsets(emissions)["checkout-prod"] == "1.842"  # 1803.41 + 37.74 kg

    def test_google_cloud_corrections_lower_the_total_before_it_is_rounded(self):
        emissions = emissions_of_month(SAMPLES / "gcp-carbon-footprint.csv", GOOGLE_CLOUD, "2026-10")
        assert [one.emitted_tonnes for one in emissions if one.entity == "search-prod"] == [
            Decimal("0.26075")
        ]

    def test_google_cloud_is_found_flattened_with_underscores(self):
        text = (SAMPLES / "gcp-carbon-footprint.csv").read_text()
        header, rows = text.split("\n", 1)
        flattened = csv_file(header.replace(".", "_") + "\n" + rows)
        assert emissions_of_month(flattened, GOOGLE_CLOUD, "2026-09") == emissions_of_month(
            SAMPLES / "gcp-carbon-footprint.csv", GOOGLE_CLOUD, "2026-09"
        )

    def test_google_cloud_rows_may_be_nested_as_bigquery_gives_them(self):
        def row(project, amount):
            return {
                "usage_month": datetime.date(2026, 9, 1),
                "project": project,
                "carbon_footprint_total_kgCO2e": {"market_based": amount},
            }

        rows = [row({"id": "a"}, 1.5), row(None, 2), row({"id": None}, Decimal("0.5"))]
        assert offsets(emissions_of_month(rows, GOOGLE_CLOUD, "2026-09")) == {
            "a": "0.002",
            "(no Google Cloud project)": "0.003",
        }

    def test_aws_is_in_metric_tonnes_by_account(self):
        assert offsets(emissions_of_month(SAMPLES / "aws-carbon-emissions.csv", AWS, "2026-10")) == {
            "444455556666": "0.122",
            "777788889999": "0.053",
        }

    def test_aws_is_location_based_on_request(self):
        assert offsets(
            emissions_of_month(SAMPLES / "aws-carbon-emissions.csv", AWS_LOCATION_BASED, "2026-10")
        ) == {
            "444455556666": "1.686",
            "777788889999": "0.928",
        }

    def test_another_entity_can_be_chosen(self):
        by_product = replace(AWS, entity="product_code")
        assert offsets(emissions_of_month(SAMPLES / "aws-carbon-emissions.csv", by_product, "2026-10")) == {
            "AmazonCloudFront": "0.001",
            "AmazonEC2": "0.145",
            "AmazonS3": "0.029",
        }


class TestSources:
    @pytest.mark.parametrize("name", ["emissions.csv", "emissions.csv.gz", "emissions"])
    def test_gzip_is_found_by_its_content_whatever_the_name(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(gzip.compress(own_rows("2026-10,a,1,t").read()))
        assert offsets(emissions_of_month(path, OWN, "2026-10")) == {"a": "1.000"}

    def test_gzip_in_several_members_is_read_to_the_end(self):
        parts = [gzip.compress(part) for part in (b"when,who,mass,unit\n2026-10,a,1,t\n", b"2026-10,a,1,t\n")]
        assert offsets(emissions_of_month(io.BytesIO(b"".join(parts)), OWN, "2026-10")) == {"a": "2.000"}

    def test_object_storage_is_read(self, tmp_path):
        (tmp_path / "emissions").write_bytes(gzip.compress(own_rows("2026-10,a,1,t").read()))
        folder = tmp_path.as_uri()
        assert offsets(emissions_of_month(ObjectStoragePath(f"{folder}/emissions"), OWN, "2026-10")) == {
            "a": "1.000"
        }
        with pytest.raises(EmissionsError, match="missing.csv: there is no such file"):
            emissions_of_month(ObjectStoragePath(f"{folder}/missing.csv"), OWN, "2026-10")

    def test_a_file_that_cannot_seek_is_read_and_left_open(self):
        class Download(io.BytesIO):
            def seekable(self):
                return False

            def seek(self, *args):
                raise io.UnsupportedOperation("seek")

        download = Download(gzip.compress(own_rows("2026-10,a,1,t").read()))
        assert offsets(emissions_of_month(download, OWN, "2026-10")) == {"a": "1.000"}
        assert not download.closed

    def test_a_path_is_closed_again_even_after_an_error(self):
        opened = []

        class Place:
            def open(self, mode):
                assert mode == "rb"
                opened.append(csv_file("when,who\n"))
                return opened[0]

        with pytest.raises(EmissionsError, match="mass"):
            emissions_of_month(Place(), OWN, "2026-10")
        assert opened[0].closed

    def test_rows_of_a_database_cursor_are_read(self):
        with sqlite3.connect(":memory:") as database:
            database.row_factory = sqlite3.Row
            cursor = database.execute(
                "select '2026-10' as 'when', 'a' as who, 0.1 as mass, 'KG' as unit union all select '2026-10', 7, 2, 'g'"
            )
            emissions = emissions_of_month(cursor, OWN, "2026-10")
        database.close()
        assert [(one.entity, one.emitted_tonnes) for one in emissions] == [
            ("7", Decimal("0.000002")),
            ("a", Decimal("0.0001")),
        ]

    def test_rows_may_hold_any_type_a_database_gives(self):
        moment = datetime.datetime(
            2026, 10, 31, 23, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=-5))
        )
        rows = [
            {"when": datetime.date(2026, 10, 1), "who": "a", "mass": Decimal("1.10"), "unit": "t"},
            {"when": moment, "who": "a", "mass": 2, "unit": "t"},
            {"when": "2026-10", "who": "a", "mass": 0.1, "unit": "t"},
            {"when": "2026-10", "who": "a", "mass": "1e-3", "unit": "t"},
        ]
        (only,) = emissions_of_month(iter(rows), OWN, "2026-10")
        assert only.emitted_tonnes == Decimal("3.201")

    def test_the_callers_decimal_context_is_neither_used_nor_changed(self):
        def rows():
            assert Decimal(1) / 3 == Decimal("0.33")
            yield {"when": "2026-10", "who": "a", "mass": "1.23456789", "unit": "t"}
            assert Decimal(1) / 3 == Decimal("0.33")

        with localcontext(prec=2):
            (only,) = emissions_of_month(rows(), OWN, "2026-10")
        assert only.emitted_tonnes == Decimal("1.23456789")
        assert only.offset_tonnes == Decimal("1.235")

    def test_a_byte_order_mark_is_not_part_of_the_first_column(self):
        source = io.BytesIO(b"\xef\xbb\xbf" + own_rows("2026-10,a,1,t").read())
        assert offsets(emissions_of_month(source, OWN, "2026-10")) == {"a": "1.000"}

    def test_windows_line_ends_blank_lines_and_quoted_line_breaks_are_read(self):
        source = csv_file('when,who,mass,unit\r\n2026-10,"a\r\nb",1,t\r\n\r\n2026-10,"c,d",1,t\r\n')
        assert offsets(emissions_of_month(source, OWN, "2026-10")) == {"a b": "1.000", "c,d": "1.000"}

    def test_an_entity_is_the_same_with_spaces_around_it_and_none_without_text(self):
        source = own_rows("2026-10,a,1,t", "2026-10, a ,1,kg", "2026-10,,1,t", "2026-10,  ,1,t")
        assert offsets(emissions_of_month(source, replace(OWN, no_entity="?"), "2026-10")) == {
            "?": "2.000",
            "a": "1.001",
        }


class TestUnits:
    @pytest.mark.parametrize(
        ("unit", "tonnes"),
        [
            *[(unit, "0.000001") for unit in ("g", "Grams", "gCO2e")],
            *[
                (unit, "0.001")
                for unit in (
                    "kg",
                    "KG",
                    "kgCO2e",
                    "kg CO2e",
                    "kgCO2",
                    "kg CO2-eq",
                    "kg_CO₂e",
                    "kilograms",
                    "kg of CO2e",
                )
            ],
            *[
                (unit, "1")
                for unit in ("t", "T", "tCO2e", "tonnes", "metric tons", "MT", "MTCO2e", "MT CO2e", "mtCO2e")
            ],
            *[(unit, "1") for unit in ("t CO2 eq.", "Metric tons of CO2e", "tonnes CO2 equivalent")],
            *[(unit, "0.00045359237") for unit in ("lb", "LBS", "pounds", "lb CO2e")],
        ],
    )
    def test_units_are_read_in_their_usual_spellings(self, unit, tonnes):
        (only,) = emissions_of_month(own_rows(f"2026-10,a,1,{unit}"), OWN, "2026-10")
        assert only.emitted_tonnes == Decimal(tonnes)

    @pytest.mark.parametrize(
        "unit",
        ["Mt", "mt", "MtCO2e", "ton", "tons", "tons CO2e", "kgC", "kg/kWh", "mg", "", "x" * 500, "CO2e"],
    )
    def test_other_units_are_refused_with_row_and_remedy(self, unit):
        with pytest.raises(EmissionsError) as caught:
            emissions_of_month(own_rows("2026-10,a,1,t", f"2026-10,a,1,{unit}"), OWN, "2026-10")
        message = str(caught.value)
        assert "line 3: column 'unit' is " in message
        assert "accepted are g, kg, t" in message
        assert len(message) < 500

    def test_one_entity_may_come_in_several_units(self):
        source = own_rows("2026-10,a,1,t", "2026-10,a,1,kg", "2026-10,a,1,g", "2026-10,a,1,lb")
        (only,) = emissions_of_month(source, OWN, "2026-10")
        assert only.emitted_tonnes == Decimal("1.00145459237")

    @pytest.mark.parametrize(
        "units", [{}, {"unit": "kg", "unit_column": "unit"}, {"unit": "furlong"}, {"unit": ""}]
    )
    def test_columns_need_exactly_one_known_unit(self, units):
        with pytest.raises(EmissionsError, match="unit"):
            EmissionsColumns(period="when", entity="who", amount="mass", **units)


class TestPeriods:
    @pytest.mark.parametrize(
        "period",
        [
            "2026-10",
            "2026-10-01",
            "2026-10-31T23:59:59",
            "2026-10-31T23:59:59.123456",
            "2026-10-31T23:59:59Z",
            "2026-10-31 23:59:59Z",
            "2026-10-31 23:59:59 UTC",
            "2026-10-31T23:30+02:00",
            "2026-10-31T23:30:00-0500",
        ],
    )
    def test_a_period_belongs_to_the_month_it_is_written_in(self, period):
        assert offsets(emissions_of_month(own_rows(f"{period},a,1,t"), OWN, "2026-10")) == {"a": "1.000"}

    @pytest.mark.parametrize(
        "period",
        [
            "",
            "2026-13",
            "2026-1",
            "2026-10x",
            "2026-10-01T",
            "2026-10-40",
            "2026-02-30",
            "10/2026",
            "202610",
            "NaT",
            "October",
        ],
    )
    def test_other_periods_are_refused_in_whatever_month(self, period):
        with pytest.raises(EmissionsError, match=r"line 3: column 'when' is .*write 2026-10"):
            emissions_of_month(own_rows("2026-10,a,1,t", f"{period},a,1,t"), OWN, "2026-10")

    @pytest.mark.parametrize("month", ["2026-13", "2026-1", "2026-10-01", "", None, "२०२६-१०"])
    def test_the_month_asked_for_is_checked(self, month):
        with pytest.raises(EmissionsError, match="month is .*write YYYY-MM"):
            emissions_of_month(own_rows("2026-10,a,1,t"), OWN, month)

    def test_rows_of_other_months_are_not_counted_and_their_amounts_not_read(self):
        source = own_rows("2026-09,a,broken,t", "2026-10,a,1,t", "2026-11,a,1,furlong")
        assert offsets(emissions_of_month(source, OWN, "2026-10")) == {"a": "1.000"}

    def test_every_row_may_have_a_timestamp_of_its_own(self):
        start = datetime.datetime(2026, 10, 1)
        rows = (
            {"when": start + datetime.timedelta(seconds=second), "who": "a", "mass": 1, "unit": "kg"}
            for second in range(10_000)
        )
        assert offsets(emissions_of_month(rows, OWN, "2026-10")) == {"a": "10.000"}


class TestTotals:
    @pytest.mark.parametrize(
        ("amounts", "offset"),
        [
            (["0.0001"] * 10, "0.001"),
            (["0.0001"] * 11, "0.002"),
            (["1"], "1.000"),
            (["1.0000000000000000000000000000000000000001"], "1.001"),
            (["1e-300"], "0.001"),
            (["1e20", "1e-20"], "100000000000000000000.001"),
        ],
    )
    def test_the_total_is_rounded_up_once_to_the_kilogram(self, amounts, offset):
        source = own_rows(*(f"2026-10,a,{amount},t" for amount in amounts))
        assert offsets(emissions_of_month(source, OWN, "2026-10")) == {"a": offset}

    @pytest.mark.parametrize("amounts", [["-1"], ["0"], ["0.5", "-0.5"], ["-0"]])
    def test_a_total_that_is_not_positive_buys_nothing_and_says_so(self, caplog, amounts):
        caplog.set_level(logging.INFO)
        source = own_rows(*(f"2026-10,a,{amount},t" for amount in amounts), "2026-10,b,1,t")
        nothing, something = emissions_of_month(source, OWN, "2026-10")
        assert nothing.offset_tonnes == 0
        assert nothing.emitted_tonnes == sum(map(Decimal, amounts))
        assert something.offset_tonnes == 1
        assert [message for message in caplog.messages if message.startswith("a emitted")] == [
            f"a emitted {nothing.emitted_tonnes} t in 2026-10: a total that is not positive buys no offset"
        ]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b"]),
                st.sampled_from(sorted(TONNES_PER_UNIT)),
                st.one_of(
                    st.floats(allow_nan=False, allow_infinity=False),
                    st.decimals(
                        allow_nan=False,
                        allow_infinity=False,
                        min_value=-(10**18),
                        max_value=10**18,
                        places=12,
                    ),
                    st.integers(-(10**30), 10**30),
                ),
            ),
            min_size=1,
        )
    )
    def test_sums_are_what_exact_fractions_give(self, rows):
        expected: dict[str, Fraction] = {}
        for who, unit, mass in rows:
            exact = Fraction(repr(mass) if isinstance(mass, float) else mass)
            expected[who] = expected.get(who, Fraction(0)) + exact * TONNES_PER_UNIT[unit]
        as_mappings = [
            {"when": "2026-10", "who": who, "mass": mass, "unit": unit} for who, unit, mass in rows
        ]
        as_csv = own_rows(*(f"2026-10,{who},{mass},{unit}" for who, unit, mass in rows))
        emissions = emissions_of_month(as_mappings, OWN, "2026-10")
        assert emissions == emissions_of_month(as_csv, OWN, "2026-10")
        assert {one.entity: Fraction(one.emitted_tonnes) for one in emissions} == expected
        for one in emissions:
            exact, offset = expected[one.entity], Fraction(one.offset_tonnes)
            assert offset == (-(-exact * 1000 // 1) / Fraction(1000) if exact > 0 else 0)
