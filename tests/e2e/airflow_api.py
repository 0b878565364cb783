"""The part of Airflow's public REST API that a person or their scripts would use."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import httpx

from tests.e2e.processes import PATIENCE, StackError, wait_until

FINISHED = {"success", "failed"}
# Of tasks. Before Airflow 3.3, a task that waits for a person is deferred.
PARKED = {"awaiting_input", "deferred"}
OVER = FINISHED | {"skipped", "upstream_failed"}


class AirflowApi:
    """
    Airflow over HTTP, as an administrator.

    :param url: where the API server listens.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30 * PATIENCE, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def health(self) -> dict[str, Any] | None:
        """Return what each component says of itself, or None while nobody answers."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def warm_up(self) -> None:
        """Have what tasks talk to made: Airflow does it at the first request, and answers nobody meanwhile, for seconds or more."""
        # Whatever the answer is: then it is made.
        self._http.get("/execution/health", timeout=300 * PATIENCE)

    def log_in(self) -> None:
        """Get a token; the simple auth manager gives one to anybody when all are admins."""
        token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._answer(self._http.get(f"/api/v2/{path}", params=params))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer(self._http.post(f"/api/v2/{path}", json=body))

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self.get("dags")["dags"]}

    def import_errors(self) -> list[str]:
        return [
            f"{error['filename']}:\n{error['stack_trace']}"
            for error in self.get("importErrors")["import_errors"]
        ]

    def trigger(
        self,
        dag_id: str,
        conf: dict[str, Any] | None = None,
        *,
        logical_date: str | None = None,
        data_interval: tuple[str, str] | None = None,
    ) -> str:
        """Start a run and return its id; ``conf`` overrides the DAG's params."""
        start, end = data_interval or (None, None)
        body = {
            "conf": conf or {},
            "logical_date": logical_date,
            "data_interval_start": start,
            "data_interval_end": end,
        }
        return str(self.post(f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self.get(f"dags/{dag_id}/dagRuns/{run_id}")

    def end_run(self, dag_id: str, run_id: str) -> None:
        """Do what a person does who marks a run as failed."""
        self._answer(self._http.patch(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"}))

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """End a run, for Airflow deletes none that is under way, and make Airflow forget it with its tasks and XComs."""
        self.end_run(dag_id, run_id)
        self._refuse_errors(self._http.delete(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return list(self.get(f"dags/{dag_id}/dagRuns")["dag_runs"])

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = 180,
        tell: Callable[[str], None] = lambda text: None,
    ) -> str:
        """
        Wait until a run has ended and return how: ``success`` or ``failed``.

        :param tell: called with a line whenever one of its tasks changes from now on.
        :raises StackError: when it has not ended after ``timeout`` seconds.
        """
        seen: dict[str, str] | None = None
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            state = str(self.run(dag_id, run_id)["state"])
            now = {task_name(task): task["state"] for task in self.task_instances(dag_id, run_id)}
            for name, task_state in now.items():
                news = seen is not None and seen.get(name) != task_state
                if news and task_state not in (None, "scheduled", "queued", "running"):
                    tell(f"{name}: {task_state}")
            seen = now
            if state in FINISHED:
                return state
            if time.monotonic() > deadline:
                raise StackError(f"{dag_id} {run_id} is still {state} after {timeout:g} s: {now}")
            time.sleep(0.4)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances, mapped ones included."""
        return list(self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"])

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        state: str | Collection[str],
        map_index: int = -1,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """Wait until a task is in a state, or one of several, and return the task instance."""
        states = {state} if isinstance(state, str) else state

        def reached() -> dict[str, Any] | None:
            task = self.task_instance(dag_id, run_id, task_id, map_index)
            return task if task is not None and task["state"] in states else None

        return wait_until(reached, what=f"{task_id} of {run_id} to be {state}", timeout=timeout)

    def wait_until_parked(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, timeout: float = 180
    ) -> None:
        """Wait until a task waits for a person: without a trigger from Airflow 3.3 on, with one before."""
        self.wait_for_task(dag_id, run_id, task_id, state=PARKED, map_index=map_index, timeout=timeout)

    def clear(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, downstream: bool = False
    ) -> None:
        """Make Airflow run a task again, and what follows it if wanted."""
        which: str | list[str | int] = task_id if map_index < 0 else [task_id, map_index]
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [which], "only_failed": False}
        body["include_downstream"] = downstream
        self.post(f"dags/{dag_id}/clearTaskInstances", body)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """Return what a task passed on."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index, deserialize=True)["value"]

    def links(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> dict[str, str | None]:
        """Return the buttons of a task's page: name to address."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.get(path, map_index=map_index)["extra_links"])

    def log(self, dag_id: str, run_id: str, task: dict[str, Any]) -> str:
        """Return the log of a task instance's latest try, one event a line, errors with their messages."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        content = self.get(path, map_index=task["map_index"], full_content=True)["content"]
        return "\n".join(_log_line(event) for event in content)

    def requests(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return what the run's tasks asked people, answered or not."""
        return list(self.get(f"dags/{dag_id}/dagRuns/{run_id}/hitlDetails")["hitl_details"])

    def answer(
        self, dag_id: str, run_id: str, task_id: str, option: str, *, map_index: int = -1, **form: Any
    ) -> None:
        """Answer what a task asks people, as the form on its page does."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/{map_index}/hitlDetails"
        body = {"chosen_options": [option], "params_input": form}
        self._answer(self._http.patch(f"/api/v2/{path}", json=body))

    def task_instance(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1
    ) -> dict[str, Any] | None:
        """Return a task instance, or None while there is none."""
        for task in self.task_instances(dag_id, run_id):
            if (task["task_id"], task["map_index"]) == (task_id, map_index):
                return task
        return None

    def failures(self, dag_id: str, run_id: str, lines: int = 6) -> str:
        """Return the tail of every failed task's log, for people."""
        parts = []
        for task in self.task_instances(dag_id, run_id):
            if task["state"] == "failed":
                log = self.log(dag_id, run_id, task).splitlines()
                end = [line for line in log if not line.startswith(("::group::", "::endgroup::"))][-lines:]
                parts.append("\n    ".join([f"{task_name(task)} failed:", *end]))
        return "\n".join(parts)

    def _answer(self, response: httpx.Response) -> dict[str, Any]:
        self._refuse_errors(response)
        return dict(response.json())

    def _refuse_errors(self, response: httpx.Response) -> None:
        if response.is_error:
            raise StackError(
                f"{response.request.method} {response.request.url} answered {response.status_code}: "
                f"{response.text[:2000]}"
            )


def task_name(task: dict[str, Any]) -> str:
    """Return a task instance's name, with the label or number of a mapped one."""
    if task["map_index"] < 0:
        return str(task["task_id"])
    return f"{task['task_id']} [{task.get('rendered_map_index') or task['map_index']}]"


def _log_line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    # The first is the exception that ended the task, the others are its causes.
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in (event.get("error_detail") or [])[:1]]
    return " ".join([str(event.get("event", "")), *errors])
