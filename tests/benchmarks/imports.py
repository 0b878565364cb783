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
ROUNDS = 9
MAX_MODULES = 25
MAX_TIME_RATIO = 0.10


def main() -> list[Row]:
    """Import both sides in turn, each time in a fresh interpreter, and compare the fastest of each: the rest is others' work."""
    rounds: dict[tuple[str, ...], list[dict[str, float]]] = {OURS: [], THEIRS: []}
    with scratch() as folder:
        for number in range(ROUNDS + 1):
            progress(f"imports: round {number} of {ROUNDS}")
            for modules, results in rounds.items():
                result = run_measured(folder, "tests.benchmarks.import_process", *modules)
                # The first round fills the bytecode cache.
                if number:
                    results.append(result)
    ours, theirs = (
        {name: min(result[name] for result in results) for name in results[0]} for results in rounds.values()
    )
    times = ours["milliseconds"] / theirs["milliseconds"]
    return [
        Row(
            "Importing all operators, sensors, triggers and links: further modules",
            f"{ours['modules']:.0f}",
            f"{theirs['modules']:.0f} (dbt Cloud sensor)",
            ours["modules"] / theirs["modules"],
            f"ours ≤ {MAX_MODULES}",
            ours["modules"] <= MAX_MODULES,
        ),
        Row(
            "Importing all operators, sensors, triggers and links: time",
            f"{ours['milliseconds']:.1f} ms",
            f"{theirs['milliseconds']:.0f} ms (dbt Cloud sensor)",
            times,
            f"≤ {MAX_TIME_RATIO:.2f}",
            times <= MAX_TIME_RATIO,
        ),
    ]


if __name__ == "__main__":
    print(render(main()))
