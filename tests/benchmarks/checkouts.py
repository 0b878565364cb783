"""What the hook adds to bare httpx: a thousand checkouts over TLS through each."""

from __future__ import annotations

from statistics import median

from tests.benchmarks.lean_server import lean_server
from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

CHECKOUTS = 1000
BLOCKS = 500
MAX_RATIO = 1.15


def main() -> list[Row]:
    """Let both sides take turns, block by block, and compare the median block: what disturbs one block is left out."""
    progress(f"checkouts: {CHECKOUTS:,} through the hook and {CHECKOUTS:,} through httpx")
    with scratch() as folder, lean_server(folder) as server:
        blocks = run_measured(
            folder,
            "tests.benchmarks.checkout_process",
            server.url,
            CHECKOUTS,
            BLOCKS,
            env=server.environment(),
        )
    hook, httpx = (1000 * BLOCKS / CHECKOUTS * median(blocks[side]) for side in ("hook", "httpx"))
    return [
        Row(
            f"{CHECKOUTS:,} checkouts through the hook: time for each",
            f"{hook:.2f} ms",
            f"{httpx:.2f} ms (one `httpx.Client`)",
            hook / httpx,
            f"≤ {MAX_RATIO:.2f}",
            hook / httpx <= MAX_RATIO,
        )
    ]


if __name__ == "__main__":
    print(render(main()))
