"""A thousand deferred waits on one event loop over TLS, each polling every second, against dbt Cloud's trigger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.lean_server import lean_server
from tests.benchmarks.measured import progress, run_measured, scratch
from tests.benchmarks.table import Row, render

WAITS = 1000
SECONDS = 15.0
ROUNDS = 2
MAX_CPU_RATIO = 0.4
MAX_CONNECTIONS_PER_POLL = 0.01
MAX_LAG_RATIO = 0.25


@dataclass(frozen=True)
class Result:
    """
    One side's figures over all rounds.

    :param polls: requests the server answered.
    :param connections: new connections the server saw.
    :param cpu: seconds of CPU, all threads.
    :param worst_lag: by how many seconds the loop was late at worst, the start of all waits included.
    :param peak_mib: the process's resident memory at its highest.
    """

    polls: int
    connections: int
    cpu: float
    worst_lag: float
    peak_mib: float

    def __add__(self, other: Result) -> Result:
        return Result(
            self.polls + other.polls,
            self.connections + other.connections,
            self.cpu + other.cpu,
            max(self.worst_lag, other.worst_lag),
            max(self.peak_mib, other.peak_mib),
        )


def measure(kind: str, folder: Path, *, waits: int = WAITS, seconds: float = SECONDS) -> Result:
    """
    Let one side wait, in a process of its own, against a server of its own.

    :param kind: ``carbonmark`` or ``dbt``.
    :raises RuntimeError: a wait ended, or didn't poll.
    """
    with lean_server(folder) as server:
        measured = run_measured(
            folder, "tests.benchmarks.wait_process", kind, waits, seconds, env=server.environment()
        )
        counts = server.counts()
    if measured["ended"]:
        raise RuntimeError(
            f"{measured['ended']} waits of {kind} ended, the first with {measured['first_end']}"
        )
    if len(counts.requests) != waits:
        raise RuntimeError(f"{waits} waits of {kind} were started, but {len(counts.requests)} polled")
    return Result(
        polls=sum(counts.requests.values()),
        connections=counts.connections - 1,  # the last one asked for the counts
        cpu=measured["cpu"],
        worst_lag=measured["worst_lag"],
        peak_mib=measured["peak_mib"],
    )


def main() -> list[Row]:
    """Measure both sides in turn."""
    results: dict[str, Result] = {}
    with scratch() as folder:
        for kind in ("carbonmark", "dbt"):
            progress(f"waits: filling the bytecode cache for {kind}")
            measure(kind, folder, waits=1, seconds=1)
        for number in range(1, ROUNDS + 1):
            for kind in ("carbonmark", "dbt"):
                progress(f"waits: round {number} of {ROUNDS}, {WAITS:,} waits of {kind} for {SECONDS:.0f} s")
                result = measure(kind, folder)
                progress(f"waits: {result}")
                results[kind] = results[kind] + result if kind in results else result
    return _rows(results["carbonmark"], results["dbt"])


def _rows(ours: Result, theirs: Result) -> list[Row]:
    what = f"{WAITS:,} deferred waits over TLS"
    name = "`DbtCloudRunJobTrigger`"
    cpu, their_cpu = (1000 * side.cpu / side.polls for side in (ours, theirs))
    new, their_new = (side.connections / side.polls for side in (ours, theirs))
    lag = ours.worst_lag / theirs.worst_lag
    return [
        Row(
            f"{what}: CPU per poll",
            f"{cpu:.2f} ms",
            f"{their_cpu:.2f} ms ({name})",
            cpu / their_cpu,
            f"≤ {MAX_CPU_RATIO:.2f}",
            cpu / their_cpu <= MAX_CPU_RATIO,
        ),
        Row(
            f"{what}: new connections per poll",
            f"{new:.4f}",
            f"{their_new:.2f} ({name})",
            new / their_new,
            f"ours ≤ {MAX_CONNECTIONS_PER_POLL}",
            new <= MAX_CONNECTIONS_PER_POLL,
        ),
        Row(
            f"{what}: worst loop lag",
            f"{1000 * ours.worst_lag:.0f} ms",
            f"{1000 * theirs.worst_lag:.0f} ms ({name})",
            lag,
            f"< {MAX_LAG_RATIO:.2f}",
            lag < MAX_LAG_RATIO,
        ),
        Row(
            f"{what}: peak memory",
            f"{ours.peak_mib:.0f} MiB",
            f"{theirs.peak_mib:.0f} MiB ({name})",
            ours.peak_mib / theirs.peak_mib,
        ),
        Row(
            f"{what}: polls in {ROUNDS} × {SECONDS:.0f} s (asked for: one a second)",
            f"{ours.polls:,}",
            f"{theirs.polls:,} ({name})",
            ours.polls / theirs.polls,
        ),
    ]


if __name__ == "__main__":
    print(render(main()))
