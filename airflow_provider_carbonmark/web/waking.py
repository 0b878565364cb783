"""
The only file that touches Airflow's internals: its database, and the answer to a human-in-the-loop request.

Runs in the API server. Import it late: plugins are imported by every process, and all this is loaded in an API server only. Each
supported version of Airflow is tested, because none of it is Airflow's public interface.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
from airflow.models.connection import Connection
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.execution_time.xcom import XCom
from airflow.utils.retries import run_with_db_retries
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import delete, func, select, update

from airflow_provider_carbonmark.operators.link_store import STATE_KEY, KeptLinks
from airflow_provider_carbonmark.web.link import (
    CONNECTION_KEY,
    PAYMENT_KEY,
    RECORD_KEY,
    LinkKey,
    PaymentRecord,
    paid_key,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

try:
    from airflow.state import TaskScope, get_state_backend
except ImportError:  # before Airflow 3.3
    TaskScope = get_state_backend = None  # type: ignore[assignment, misc]

log = logging.getLogger(__name__)

RETURN_VALUE_KEY = "return_value"

T = TypeVar("T")


@dataclass(frozen=True)
class Link:
    """
    What Airflow knows of a link.

    :param conn_id: the connection that it was made with; None when that isn't known.
    :param checkouts: what the task made, the latest last. More than one only when its input changed in between.
    :param record: what its buyers came back with so far.
    :param has_task: whether the task that made it is still there, to record anything on.
    """

    conn_id: str | None
    checkouts: tuple[dict[str, Any], ...]
    record: PaymentRecord | None
    has_task: bool = True


@dataclass(frozen=True)
class Recorded:
    """
    What recording a payment came to.

    :param record: the record of the link as it is now.
    :param is_news: whether that is another than before.
    :param entered: other payment ids that people entered for the link in a form.
    """

    record: PaymentRecord
    is_news: bool
    entered: tuple[str, ...] = ()


class _Buyer:
    """Who answers a human-in-the-loop request, as far as Airflow wants to know."""

    def __init__(self, user_id: str = "carbonmark") -> None:
        self._id = user_id

    def get_id(self) -> str:
        return self._id

    def get_name(self) -> str:
        return "Carbonmark return URL"


def find_connection(conn_id: str) -> Connection | None:
    """Return a connection from wherever this Airflow keeps its secrets."""
    try:
        return Connection.get_connection_from_secrets(conn_id)
    except (AirflowNotFoundException, ValueError):
        return None


def find_link(link: LinkKey) -> Link | None:
    """Return what Airflow knows of a link, without checkouts if nothing; None when there is no such task."""
    with create_session(scoped=False) as session:
        if session.scalar(select(TaskInstance.id).where(*_is(TaskInstance, link))) is None:
            return None
        return Link(*_made_links(session, link), _read_record(session, link))


def record_payment(link: LinkKey, payment_id: str, *, verified: bool) -> Recorded | None:
    """
    Record what a buyer came back with, and wake the task that waits for it, in one transaction.

    Several API servers may do so for one link at the same moment: they take turns.

    :param link: the link.
    :param payment_id: what the buyer came back with.
    :param verified: whether Carbonmark said that it is for this link.
    :return: None when the payment is verified to be for another link; then nothing is recorded.
    """

    def record(session: Session) -> Recorded | None:
        _lock(session, link, payment_id)
        if _is_another_links(session, link, payment_id):
            return None
        before = _read_record(session, link)
        after = (
            before.with_payment(payment_id, verified=verified)
            if before
            else PaymentRecord(payment_id, verified)
        )
        if after != before:
            _write_record(session, link, after)
        return Recorded(after, after != before)

    def record_and_wake(session: Session) -> Recorded | None:
        recorded = record(session)
        if recorded is None:
            return None
        entered = _answer_waiting(session, link, recorded.record.payment_id)
        return replace(recorded, entered=entered)

    try:
        return _in_transaction(record_and_wake)
    except Exception:
        # Whatever is wrong with waking, a payment must not be lost over it.
        recorded = _in_transaction(record)
        log.exception("Payment %s is recorded, but the task that waits for it can't be woken", payment_id)
        return recorded


def wake(link: LinkKey, payment_id: str) -> None:
    """
    Answer the open request of the task that waits for a link.

    Called once more after a record was committed: a request made in between saw no record, and wasn't seen by its transaction.
    """
    try:
        _in_transaction(lambda session: _answer_waiting(session, link, payment_id))
    except Exception:
        log.exception("Payment %s is recorded, but the task that waits for it can't be woken", payment_id)


def _in_transaction(work: Callable[[Session], T]) -> T:
    for attempt in run_with_db_retries():
        with attempt, create_session(scoped=False) as session:
            result = work(session)
    return result


def _is(model: Any, link: LinkKey) -> tuple[Any, ...]:
    names = ("dag_id", "run_id", "task_id", "map_index")
    return tuple(getattr(model, name) == value for name, value in zip(names, astuple(link), strict=True))


def _lock(session: Session, link: LinkKey, payment_id: str) -> None:
    """
    Keep everybody else from recording for this link, or this payment for another, until this transaction ends.

    An update that changes nothing locks the row, or the whole of SQLite, which knows no SELECT … FOR UPDATE.
    """
    session.execute(
        update(TaskInstance)
        .where(*_is(TaskInstance, link))
        .values(updated_at=TaskInstance.updated_at)
        .execution_options(synchronize_session=False)
    )
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(payment_id.encode()).digest()[:8], signed=True)
        session.execute(select(func.pg_advisory_xact_lock(number)))


def _is_another_links(session: Session, link: LinkKey, payment_id: str) -> bool:
    """Tell whether Carbonmark said before that the payment is for another link: two may ask for just the same."""
    # Columns, not objects: those come with an outer join, which PostgreSQL locks nothing of. Locked for MySQL's sake, which knows no
    # lock by a number; there, of two that find nothing, one is tried again.
    names = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
    said = select(*names).where(XComModel.key == paid_key(payment_id)).with_for_update()
    return any(LinkKey.of(row) != link for row in session.execute(said).all())


def _made_links(session: Session, link: LinkKey) -> tuple[str | None, tuple[dict[str, Any], ...]]:
    """Return connection and checkouts: from the task state store, which outlives a clear, else from the XComs."""
    kept = _read_state(session, link, STATE_KEY)
    if kept and (made := KeptLinks.from_json(kept).made):
        return made[-1].purchase["carbonmark_conn_id"], tuple(each.checkout for each in made)
    checkout = _read_xcom(session, link, RETURN_VALUE_KEY)
    is_checkout = isinstance(checkout, dict) and "checkout_url" in checkout
    return _read_xcom(session, link, CONNECTION_KEY), (checkout,) if is_checkout else ()


def _read_record(session: Session, link: LinkKey) -> PaymentRecord | None:
    kept = _read_state(session, link, RECORD_KEY) or _read_xcom(session, link, RECORD_KEY)
    return PaymentRecord.from_json(kept) if kept else None


def _write_record(session: Session, link: LinkKey, record: PaymentRecord) -> None:
    _write_xcom(session, link, PAYMENT_KEY, record.payment_id)
    _write_xcom(session, link, RECORD_KEY, record.to_json())
    if record.verified:
        _write_xcom(session, link, paid_key(record.payment_id), record.payment_id)
    if get_state_backend is not None:
        scope = TaskScope(*astuple(link))
        get_state_backend().set(
            scope, RECORD_KEY, json.dumps(record.to_json()), expires_at=None, session=session
        )


def _read_state(session: Session, link: LinkKey, key: str) -> dict[str, Any] | None:
    if get_state_backend is None:
        return None
    text = get_state_backend().get(TaskScope(*astuple(link)), key, session=session)
    value = None if text is None else json.loads(text)
    # A deployment's own backend on the workers leaves a reference here, which only workers can follow.
    return value if isinstance(value, dict) and not any(name.startswith("__") for name in value) else None


def _read_xcom(session: Session, link: LinkKey, key: str) -> Any:
    row = session.scalar(select(XComModel).where(*_is(XComModel, link), XComModel.key == key))
    return None if row is None else _value(row)


def _value(row: XComModel) -> Any:
    return XCom.deserialize_value(row)


def _write_xcom(session: Session, link: LinkKey, key: str, value: Any) -> None:
    """Write an XCom as a worker does: plain JSON, encoded once. ``XComModel.set`` encodes it twice before Airflow 3.3."""
    session.execute(delete(XComModel).where(*_is(XComModel, link), XComModel.key == key))
    run_id = session.scalars(
        select(DagRun.id).where(DagRun.dag_id == link.dag_id, DagRun.run_id == link.run_id)
    ).one()
    session.add(XComModel(dag_run_id=run_id, key=key, value=value, **link.to_json()))
    session.flush()


def _answer_waiting(session: Session, link: LinkKey, payment_id: str) -> tuple[str, ...]:
    """Answer, in the buyer's place, every open request for the payment of this link; return what people answered otherwise."""
    waiting = [
        LinkKey.of(row)
        for row in session.scalars(select(XComModel).where(XComModel.key == link.awaits_key)).all()
        if _value(row) == link.to_json()
    ]
    entered = []
    for task in waiting:
        # Columns, not objects: those would come back half loaded when Airflow asks for them in the same session.
        request = session.execute(
            select(
                HITLDetail.ti_id,
                HITLDetail.options,
                HITLDetail.assignees,
                HITLDetail.responded_at,
                HITLDetail.params_input,
            )
            .join(TaskInstance, HITLDetail.ti_id == TaskInstance.id)
            .where(*_is(TaskInstance, task))
        ).one_or_none()
        if request is None:
            continue
        if request.responded_at is None:
            _answer(session, task, request, payment_id)
        elif (other := (request.params_input or {}).get(PAYMENT_KEY)) not in (None, "", payment_id):
            entered.append(str(other))
    return tuple(entered)


def _answer(session: Session, task: LinkKey, request: Any, payment_id: str) -> None:
    paid = UpdateHITLDetailPayload(chosen_options=request.options[:1], params_input={PAYMENT_KEY: payment_id})
    # Airflow lets only assigned users answer. A buyer needs no account: the token and Carbonmark vouch for the payment.
    buyer = _Buyer(request.assignees[0]["id"]) if request.assignees else _Buyer()
    try:
        update_hitl_detail(
            dag_id=task.dag_id,
            dag_run_id=task.run_id,
            task_id=task.task_id,
            map_index=task.map_index,
            update_hitl_detail_payload=paid,
            user=buyer,  # type: ignore[arg-type]
            session=session,
        )
    except HTTPException as refusal:
        if refusal.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
        # Cleared or answered in this moment; the task looks for the record before it does anything else.
        log.info("The request of %s could not be answered: %s", task, refusal.detail)
        return
    nobody_assigned = {"id": _Buyer().get_id(), "name": buyer.get_name()}
    session.execute(
        update(HITLDetail)
        .where(HITLDetail.ti_id == request.ti_id)
        .values(responded_by=nobody_assigned)
        .execution_options(synchronize_session=False)
    )
