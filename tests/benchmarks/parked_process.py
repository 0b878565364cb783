"""
What the benchmark of waiting does in Airflow's database.

`python -m tests.benchmarks.parked_process copy <dag id> <run id> <copies>`, `… delete <dag id>` or `… count <dag id>`, in the
environment of an Airflow on PostgreSQL. Prints JSON on its last line.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import uuid6
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import delete, func, insert, select, text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def copy(session: Session, dag_id: str, run_id: str, copies: str) -> dict[str, Any]:
    """Copy a run with its tasks, what they passed on, what they ask people, and their triggers."""
    runs, tasks = (
        _rows(session, model, model.dag_id == dag_id, model.run_id == run_id)
        for model in (DagRun, TaskInstance)
    )
    asked = _rows(session, HITLDetail, HITLDetail.ti_id.in_([task["id"] for task in tasks]))
    passed_on = _rows(session, XComModel, XComModel.dag_id == dag_id, XComModel.run_id == run_id)
    triggers = _rows(session, Trigger, Trigger.id.in_([task["trigger_id"] for task in tasks]))
    numbers = range(int(copies))
    names = [f"{run_id} copy {number}" for number in numbers]
    run_ids = _insert(session, DagRun, [_without(runs[0], run_id=name) for name in names])
    for row in tasks:
        ids = [uuid6.uuid7() for _ in numbers]
        trigger_ids: list[Any] = [None for _ in numbers]
        if row["trigger_id"]:
            (trigger,) = (each for each in triggers if each["id"] == row["trigger_id"])
            trigger_ids = _insert(session, Trigger, [_without(trigger, triggerer_id=None) for _ in numbers])
        session.execute(
            insert(TaskInstance.__table__),
            [
                {**row, "id": new_id, "run_id": name, "trigger_id": trigger_id}
                for new_id, name, trigger_id in zip(ids, names, trigger_ids, strict=True)
            ],
        )
        for request in (each for each in asked if each["ti_id"] == row["id"]):
            session.execute(insert(HITLDetail.__table__), [{**request, "ti_id": new_id} for new_id in ids])
    for value in passed_on:
        copied = zip(names, run_ids, strict=True)
        session.execute(
            insert(XComModel.__table__),
            [{**value, "run_id": name, "dag_run_id": key} for name, key in copied],
        )
    return {}


def delete_runs(session: Session, dag_id: str) -> dict[str, Any]:
    """Delete all runs of a DAG; Airflow's database takes their tasks along."""
    session.execute(delete(DagRun.__table__).where(DagRun.dag_id == dag_id))
    return {}


def count(session: Session, dag_id: str) -> dict[str, Any]:
    """Count what waits, which triggers a triggerer has taken, and how often any connection was read."""
    waiting = TaskInstance.dag_id == dag_id, TaskInstance.task_id == "waiting"
    states = Counter(session.scalars(select(TaskInstance.state).where(*waiting)))
    taken = select(func.count()).select_from(Trigger).where(Trigger.triggerer_id.is_not(None))
    asked = select(func.count()).select_from(HITLDetail).where(HITLDetail.responded_at.is_(None))
    reads = text(
        "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'connection'"
    )
    return {
        "states": states,
        "triggers": session.scalar(taken),
        "requests": session.scalar(asked),
        "connection_reads": session.scalar(reads),
    }


def _rows(session: Session, model: Any, *conditions: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in session.execute(select(model.__table__).where(*conditions)).mappings()]


def _without(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a row without its id, which the database gives."""
    return {name: value for name, value in row.items() if name != "id"} | changes


def _insert(session: Session, model: Any, rows: list[dict[str, Any]]) -> list[int]:
    table = model.__table__
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return list(session.scalars(statement, rows))


COMMANDS = {"copy": copy, "delete": delete_runs, "count": count}


def main(command: str, *arguments: str) -> None:
    with create_session(scoped=False) as session:
        result = COMMANDS[command](session, *arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
