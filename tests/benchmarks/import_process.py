"""The measured process of the imports: `python -m tests.benchmarks.import_process <module before> <module>…`."""

from __future__ import annotations

import importlib
import json
import sys
import time


def main(before_all: str, *modules: str) -> None:
    # Lazy names are resolved by asking for them.
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator  # noqa: F401

    importlib.import_module(before_all)
    before = set(sys.modules)
    started = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    elapsed = time.perf_counter() - started
    print(json.dumps({"modules": len(set(sys.modules) - before), "milliseconds": 1000 * elapsed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
