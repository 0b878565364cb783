"""What a DAG file pays for importing us, after the base classes that any operator needs."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

PACKAGE = Path(__file__).parents[2] / "airflow_provider_carbonmark"
OURS = (
    *(
        f"{PACKAGE.name}.{folder}.{file.stem}"
        for folder in ("operators", "sensors", "triggers")
        for file in sorted((PACKAGE / folder).glob("[!_]*.py"))
    ),
    f"{PACKAGE.name}.links",
)
THEIRS = ("airflow.providers.dbt.cloud.sensors.dbt",)
TRIGGER_BASE = "airflow.triggers.base"
# What our task that asks a person derives from, in Airflow's own package, and the base of triggers with it.
PERSON_BASE = "airflow.providers.standard.operators.hitl"
SIDES = {
    "ours": (PERSON_BASE, *OURS),
    "ours with it": (TRIGGER_BASE, *OURS),
    "theirs": (PERSON_BASE, *THEIRS),
    "theirs with it": (TRIGGER_BASE, *THEIRS),
}
ROUNDS = 9
MAX_MODULES = 25
MAX_TIME_RATIO = 0.10


def main() -> list[Row]:
    """Import all sides in turn, each time in a fresh interpreter, and compare the fastest of each: the rest is others' work."""
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with scratch() as folder:
        for number in range(ROUNDS + 1):
            progress(f"imports: round {number} of {ROUNDS}")
            for side, results in rounds.items():
                result = run_measured(folder, "tests.benchmarks.import_process", *SIDES[side])
                # The first round fills the bytecode cache.
                if number:
                    results.append(result)
    least = {
        side: {name: min(result[name] for result in results) for name in results[0]}
        for side, results in rounds.items()
    }
    rows = []
    for kind, what in (
        ("", "Importing all operators, sensors, triggers and links"),
        (" with it", "The same, and Airflow's `HITLOperator` that one of them derives from"),
    ):
        ours, theirs = least[f"ours{kind}"], least[f"theirs{kind}"]
        times = ours["milliseconds"] / theirs["milliseconds"]
        rows += [
            Row(
                f"{what}: further modules",
                f"{ours['modules']:.0f}",
                f"{theirs['modules']:.0f} (dbt Cloud sensor)",
                ours["modules"] / theirs["modules"],
                "" if kind else f"ours ≤ {MAX_MODULES}",
                None if kind else ours["modules"] <= MAX_MODULES,
            ),
            Row(
                f"{what}: time",
                f"{ours['milliseconds']:.1f} ms",
                f"{theirs['milliseconds']:.0f} ms (dbt Cloud sensor)",
                times,
                "" if kind else f"≤ {MAX_TIME_RATIO:.2f}",
                None if kind else times <= MAX_TIME_RATIO,
            ),
        ]
    return rows


if __name__ == "__main__":
    print(render(main()))
