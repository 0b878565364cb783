"""A plan says of each figure where it is from, and which files were read."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from airflow_provider_carbonmark.emissions.sums import Part
from airflow_provider_carbonmark.emissions.tables import FileRead
from airflow_provider_carbonmark.ledger import values
from airflow_provider_carbonmark.ledger.values import Coverage, Covered, Need, SourceFile
from tests.unit.planning.test_plan import emitted, planned

FILES = (FileRead("a.csv", 3, "a" * 64), FileRead("b.csv", 4, "b" * 64))
PART = ("scope2", "2", "location-based", Decimal("1.2345"))
ORIGIN = values.Origin("AWS", "v2", (values.Part(*PART),))


def of_aws(entity: str = "a", offset: str = "1.235"):
    return replace(
        emitted(entity, offset, "1.2345"), source="AWS", version="v2", parts=(Part(*PART),), files=FILES
    )


def test_where_emissions_are_from_goes_with_them_and_files_by_month():
    later = replace(of_aws("b"), month="2026-11", files=FILES[:1])
    plan = planned(of_aws(), of_aws("b"), emitted("none", "1"), later)
    assert plan.origins == {("a", "2026-10"): ORIGIN, ("b", "2026-10"): ORIGIN, ("b", "2026-11"): ORIGIN}
    first, second = (SourceFile(file.path, file.rows, file.sha256) for file in FILES)
    assert plan.files == {"2026-10": [first, second], "2026-11": [first]}


def test_a_figure_that_is_not_stated_now_is_from_where_it_was():
    key = ("a", "2026-09")
    coverage = Coverage(
        {key: Covered(Decimal(0), Decimal(1))}, [Need(*key, Decimal(1), Decimal(1))], origins={key: ORIGIN}
    )
    assert planned(coverage=coverage).origins == {key: ORIGIN}
    # One that is stated anew, by somebody who doesn't say, is not.
    assert planned(emitted("a", "1", month="2026-09"), coverage=coverage).origins == {}


def test_a_figure_that_stays_the_same_is_not_stated_anew_because_it_is_from_elsewhere():
    coverage = Coverage({("a", "2026-10"): Covered(Decimal(2), Decimal("1.2345"))})
    assert planned(of_aws(), coverage=coverage).restated == ()
