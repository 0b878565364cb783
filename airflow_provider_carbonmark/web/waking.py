"""
The only file that touches Airflow's internals for buyers: who is signed in, a connection, a parked task's request, and the answer to it.

None of it is Airflow's public interface. So all of it is imported when it is needed, each supported version is tested, and where it
fails, the payment is in the ledger already: the task finds it there when it is next run.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkConnection

if TYPE_CHECKING:
    from fastapi import Request

    from airflow_provider_carbonmark.api.client import ClientSettings
    from airflow_provider_carbonmark.ledger.names import Task

log = logging.getLogger(__name__)

#: The field of the task's form that holds the payment id, and who filled it in.
FIELD = "payment_id"
ANSWERED_BY = {"id": "carbonmark", "name": "Carbonmark return URL"}


def settings_of(conn_id: str) -> ClientSettings:
    """Return how to reach Carbonmark, from wherever this Airflow keeps its secrets. :raises Exception: when it isn't there."""
    from airflow.models.connection import Connection

    return CarbonmarkConnection.of(Connection.get_connection_from_secrets(conn_id)).settings


async def name_of(request: Request) -> str | None:
    """Return who is signed in; None where nobody is, or nobody can tell."""
    try:
        from airflow.api_fastapi.core_api.security import get_user

        return str((await get_user(request, None, None)).get_name())
    except Exception as error:
        log.debug("Nobody is signed in: %r", error)
        return None


class Waker:
    """Answers the requests of tasks that wait for a payment, in the buyer's place."""

    def __init__(self) -> None:
        self._told: set[type[Exception]] = set()

    def wake(self, tasks: Iterable[Task], payment_id: str | None) -> bool:
        """
        Answer every open request of these tasks.

        :param payment_id: the payment; None where there is none to wait for any more.
        :return: whether all could be woken that are parked.
        """
        return all([self._wake(task, payment_id) for task in tasks])

    def _wake(self, task: Task, payment_id: str | None) -> bool:
        try:
            _answer(task, payment_id)
        except Exception as error:
            self.failed(task, payment_id, error)
            return False
        return True

    def failed(self, waiting: object, payment_id: str | None, error: Exception) -> None:
        """
        Say in the log that what happened is recorded, but what waits for it goes on only when it is next run.

        Once: what is wrong with one is wrong with all of them, mostly.
        """
        is_news = type(error) not in self._told
        self._told.add(type(error))
        log.log(
            logging.ERROR if is_news else logging.INFO,
            "%s is in the ledger, but what waits for it can't be woken and goes on when it is next run: clear it. It is %s",
            *(f"Payment {payment_id}" if payment_id else "That nobody has to pay any more", waiting),
            exc_info=error if is_news else None,
        )


def show(task: Task, body: str) -> None:
    """Have a task's open request shown with another text, in Markdown."""
    _change_open_request(task, lambda session, request: {"body": body})


def _answer(task: Task, payment_id: str | None) -> None:
    from fastapi import HTTPException

    def answer(session: Any, request: Any) -> Mapping[str, Any]:
        _as_airflow_does(session, task, request, payment_id)
        return {"responded_by": ANSWERED_BY}

    try:
        _change_open_request(task, answer)
    except HTTPException as refusal:
        if refusal.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
        # Cleared or answered in this moment; the task looks into the ledger before it does anything else.
        log.info("The request of %s could not be answered: %s", task, refusal.detail)


def _change_open_request(task: Task, change: Callable[[Any, Any], Mapping[str, Any]]) -> None:
    """
    Change the request that a task has not been answered yet, where it has one.

    :param change: given Airflow's session and the request, it returns what to write.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.retries import run_with_db_retries
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    is_it = {
        "dag_id": task.run.dag_id,
        "run_id": task.run.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
    }
    # Columns, not objects: those would come back half loaded when Airflow asks for them in the same session.
    open_request = (
        select(HITLDetail.ti_id, HITLDetail.options, HITLDetail.assignees)
        .join(TaskInstance, HITLDetail.ti_id == TaskInstance.id)
        .where(HITLDetail.responded_at.is_(None))
        .where(*(getattr(TaskInstance, name) == value for name, value in is_it.items()))
    )
    for attempt in run_with_db_retries():
        with attempt, create_session(scoped=False) as session:
            request = session.execute(open_request).first()
            if request is not None:
                session.execute(
                    update(HITLDetail)
                    .where(HITLDetail.ti_id == request.ti_id)
                    .values(change(session, request))
                    .execution_options(synchronize_session=False)
                )


def _as_airflow_does(session: Any, task: Task, request: Any, payment_id: str | None) -> None:
    """Call what Airflow's own API calls when a person answers."""
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail

    # Airflow lets only assigned users answer. A buyer needs no account: the token and Carbonmark vouch for the payment.
    user_id = request.assignees[0]["id"] if request.assignees else ANSWERED_BY["id"]
    more: dict[str, Any] = {}
    if "dag_bag" in inspect.signature(update_hitl_detail).parameters:  # from Airflow 3.4
        from airflow.models.dagbag import DBDagBag

        more["dag_bag"] = DBDagBag(load_op_links=False)
    update_hitl_detail(
        dag_id=task.run.dag_id,
        dag_run_id=task.run.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        update_hitl_detail_payload=UpdateHITLDetailPayload(
            chosen_options=request.options[:1], params_input={FIELD: payment_id}
        ),
        user=_buyer(user_id),
        session=session,
        **more,
    )


def _buyer(user_id: str) -> Any:
    """Return who answers, as far as Airflow wants to know."""
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    class Buyer(BaseUser):
        def get_id(self) -> str:
            return user_id

        def get_name(self) -> str:
            return ANSWERED_BY["name"]

    return Buyer()
