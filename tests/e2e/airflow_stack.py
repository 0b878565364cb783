"""
A real Airflow in a temporary home: API server, scheduler, DAG processor and triggerer on free ports.

Needs Airflow, httpx and the standard library only, so that the demo runs without any test dependency.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.airflow_api import OVER, AirflowApi
from tests.e2e.processes import Process, StackError, Started, free_ports, wait_until

DAGS = Path(__file__).resolve().parents[2] / "dags"
OTHER_COMPONENTS = ("scheduler", "dag-processor", "triggerer")
COMPONENTS = ("api-server", *OTHER_COMPONENTS)
HEALTH_NAMES = ("metadatabase", "scheduler", "triggerer", "dag_processor")


def digested(log: Path, task: str) -> bool:
    """
    Return whether a scheduler has said in its log that it knows that a task has parked.

    Airflow fails a try that is answered before that. A person is seldom that fast, and a buyer's return is found by the next try, five
    minutes later by default; tests are, so they wait for it.

    :param task: the end of what identifies the task there, ``task_id='payment'`` or more.
    """
    lines = log.read_text(errors="replace").splitlines()
    return any("Received executor event with state success" in line and task in line for line in lines)


class AirflowStack(Started):
    """
    Airflow's processes as one context manager; leaving it stops them all and removes the home.

    :param env: what to add to every process's environment, connections for example.
    :param dags: folders the DAGs are read from.
    :param database: address of an empty database; SQLite in the home when not given.
    :param api_servers: how many; people use the first, buyers come back to the last.
    :param path: below which all of Airflow is, such as ``/airflow``; at the root when not given.
    :param tell: called with a line whenever there is progress to report.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        dags: Sequence[Path] = (DAGS,),
        database: str | None = None,
        api_servers: int = 1,
        path: str = "",
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="carbonmark-airflow-"))
        worker_log_port, trigger_log_port, *ports = free_ports(2 + api_servers)
        #: The address of each API server.
        self.urls = urls = [f"http://127.0.0.1:{port}{path}" for port in ports]
        self.url = urls[0]
        self.env = {
            **_outer_environment(),
            **_settings(self.home, dags, self.url, database),
            "AIRFLOW__CARBONMARK__RETURN_BASE_URL": urls[-1],
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            **env,
        }
        servers = {
            # What tasks talk to takes seconds to make, and they talk to the first.
            _numbered("api-server", index): [
                "api-server",
                f"--port={port}",
                f"--apps={'core' if index else 'all'}",
            ]
            for index, port in enumerate(ports)
        }
        #: The address and the process that buyers come back to.
        self.return_url = urls[-1]
        self.return_server = list(servers)[-1]
        self._api_servers = [AirflowApi(url) for url in urls]
        self.api = self._api_servers[0]
        self.processes = {
            name: Process(
                name,
                [sys.executable, "-m", "airflow", *command],
                env=self.env,
                log=self.home / "processes" / f"{name}.log",
            )
            for name, command in {**servers, **{name: [name] for name in OTHER_COMPONENTS}}.items()
        }
        self._dag_count = sum(1 for folder in dags for _ in folder.glob("*.py"))
        self._tell = tell

    def start(self) -> None:
        """
        Make the database, start every process and wait until all are healthy and the DAGs are read.

        :raises StackError: with the tail of the log of what did not start.
        """
        self._tell(f"Making Airflow's database in {self.home}")
        self.cli("db", "migrate")
        self._tell(f"Starting {', '.join(self.processes)}")
        for process in self.processes.values():
            process.start()
        self.wait_until_healthy()
        self.api.log_in()
        self._tell(f"Airflow is up at {self.url}; waiting for the DAGs to be read")
        wait_until(self._dags_are_read, what="the DAGs to be read", timeout=180)

    def stop(self) -> None:
        """End every process and remove the home; may be called twice."""
        for api in self._api_servers:
            api.close()
        # Nothing of theirs is kept, and some take ten seconds to end by themselves.
        for process in self.processes.values():
            process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def cli(self, *arguments: str) -> str:
        """
        Run an ``airflow`` command against this installation and return what it printed.

        :raises StackError: when it fails, with the end of its output.
        """
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.env,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"airflow {' '.join(arguments)} failed:\n{done.stdout[-4000:]}")
        return done.stdout

    def answer_parked(
        self, answer: Callable[[], None], dag_id: str, run_id: str, task_id: str, map_index: int = -1
    ) -> None:
        """Answer the request of a parked task once :func:`digested`, and wait until the task is over."""

        def task() -> dict[str, Any]:
            return self.api.task_instance(dag_id, run_id, task_id, map_index) or {}

        def known() -> bool:
            key = f"task_id='{task_id}', run_id='{run_id}', try_number={task().get('try_number')}, map_index={map_index})"
            return digested(self.processes["scheduler"].log, key)

        self.api.wait_until_parked(dag_id, run_id, task_id, map_index=map_index)
        wait_until(known, what=f"the scheduler to know that {task_id} of {run_id} is parked", timeout=60)
        answer()
        wait_until(
            lambda: task().get("state") in OVER,
            what=f"{task_id} of {run_id} to hear the answer",
            timeout=60,
        )

    def restart(self, *names: str) -> None:
        """Start components again, after a kill for example, and wait until all are healthy."""
        for name in names:
            self.processes[name].stop()
            self.processes[name].start()
        if names:
            self.wait_until_healthy()

    @contextmanager
    def database_to_oneself(self) -> Iterator[None]:
        """Keep every component from writing for a while: SQLite takes one writer at a time, and turns others away."""
        writers = [process for name, process in self.processes.items() if name != "api-server"]
        _stop(writers)
        try:
            yield
        finally:
            for process in writers:
                process.start()
            self.wait_until_healthy()

    def wait_until_healthy(self, timeout: float = 300) -> None:
        """
        Wait until the health endpoint calls every component healthy, and API servers answer tasks too.

        :raises StackError: when one of them has ended, or ``timeout`` seconds have passed.
        """

        def healthy() -> bool:
            for process in self.processes.values():
                process.check()
            answers = [api.health() or {} for api in self._api_servers]
            return all(
                answer.get(name, {}).get("status") == "healthy" for answer in answers for name in HEALTH_NAMES
            )

        try:
            wait_until(healthy, what="a healthy Airflow", timeout=timeout)
        except StackError as error:
            raise StackError(f"{error}\n{self.tails()}") from None
        for api in self._api_servers:
            api.warm_up()

    def tails(self, lines: int = 15) -> str:
        """Return the end of every process's log, for people."""
        return "\n".join(
            f"--- {name}, the end of its log\n{process.tail(lines)}"
            for name, process in self.processes.items()
        )

    def _dags_are_read(self) -> bool:
        for process in self.processes.values():
            process.check()
        if errors := self.api.import_errors():
            raise StackError("A DAG cannot be imported. " + "\n".join(errors))
        return len(self.api.dag_ids()) >= self._dag_count


def _stop(processes: Collection[Process]) -> None:
    """Ask all to end, and only then wait for each."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.stop()


def _outer_environment() -> dict[str, str]:
    """Return the caller's environment without settings of some other Airflow."""
    return {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}


def _bundle(folder: Path) -> dict[str, Any]:
    path = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": folder.parent.name, "classpath": path, "kwargs": {"path": str(folder)}}


def _numbered(name: str, index: int) -> str:
    return f"{name}-{index + 1}" if index else name


def _settings(home: Path, dags: Sequence[Path], url: str, database: str | None) -> dict[str, str]:
    """Return Airflow's settings as environment variables."""
    settings = {
        # What demo and tests buy costs less than a card can pay.
        "CARBONMARK__MINIMUM_PAYMENT_USD": "0",
        "CORE__DAGS_FOLDER": dags[0],
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__DEFAULT_TASK_RETRY_DELAY": 1,
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CORE__LOAD_EXAMPLES": False,
        "CORE__PARALLELISM": 4,
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([_bundle(folder) for folder in dags]),
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "LOGGING__COLORED_CONSOLE_LOG": False,
        "LOGGING__NAMESPACE_LEVELS": "http.access=WARNING",
        # Only runs that are asked for: the calendar must not decide what a demo or a test finds.
        "SCHEDULER__USE_JOB_SCHEDULE": False,
        "SCHEDULER__JOB_HEARTBEAT_SEC": 2,
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
        "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": 2,
        "TRIGGERER__JOB_HEARTBEAT_SEC": 1,
        # How soon a finished task is seen to be finished.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        # How long the waits of a killed triggerer lie idle before the next one takes them over.
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 8,
    }
    if database is not None:
        settings["DATABASE__SQL_ALCHEMY_CONN"] = database
    return {"AIRFLOW_HOME": str(home)} | {f"AIRFLOW__{key}": str(value) for key, value in settings.items()}
