"""What a DAG file pays for importing us, after the base classes that any operator needs."""

from __future__ import annotations

import importlib
import sys
import time
from functools import partial

from airflow_provider_carbonmark.get_provider_info import get_provider_info
from tests.benchmarks.measured import Row, compare, in_turn, run, run_measured, scratch

# All that a DAG file may import, as Airflow lists it; what is beside it in these folders is loaded when a task runs.
OURS = (
    *(
        module
        for kind in ("operators", "sensors", "triggers")
        for listed in get_provider_info()[kind]
        for module in listed["python-modules"]
    ),
    "airflow_provider_carbonmark.links",
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


def measured(before_all: str, *modules: str) -> dict[str, float]:
    """Import modules after what they need anyway."""
    # Lazy names are resolved by asking for them.
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator  # noqa: F401

    importlib.import_module(before_all)
    before = set(sys.modules)
    started = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    elapsed = time.perf_counter() - started
    return {"modules": len(set(sys.modules) - before), "milliseconds": 1000 * elapsed}


def main() -> list[Row]:
    """Import all sides in turn, each time in a fresh interpreter."""
    with scratch() as folder:
        sides = {side: partial(run_measured, folder, "imports", *modules) for side, modules in SIDES.items()}
        least = in_turn("imports", ROUNDS, sides, warm_up=True)
    rows = []
    for kind, what, modules, milliseconds in (
        ("", "Importing all operators, sensors, triggers and links", "ours ≤ 25", "≤ 0.10"),
        (" with it", "The same, and Airflow's `HITLOperator` that one of them derives from", "", ""),
    ):
        sides = [least[f"{side}{kind}"] for side in ("ours", "theirs")]
        for figure, name, texts, target in (
            ("modules", "further modules", ("{:.0f}", "{:.0f}"), modules),
            ("milliseconds", "time", ("{:.1f} ms", "{:.0f} ms"), milliseconds),
        ):
            figures = (side[figure] for side in sides)
            text, their_text = texts
            rows.append(
                compare(f"{what}: {name}", *figures, text, "dbt Cloud sensor", target, their_text=their_text)
            )
    return rows


if __name__ == "__main__":
    run(main, measured)
