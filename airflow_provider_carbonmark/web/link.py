"""Which task made a link, and what is recorded of its payment. Plain values: nothing of Airflow, nothing of HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

#: Where Airflow's API server serves the return URL.
PREFIX = "/carbonmark"

# XComs on the task that made a link: the payment id for everybody, the whole record, and the connection it was made with. The
# record is kept in the task state store as well (Airflow 3.3 and later), under the same key.
PAYMENT_KEY = "payment_id"
RECORD_KEY = "carbonmark_payment"
CONNECTION_KEY = "carbonmark_conn_id"
# By this key the task is found again from the payment, whichever run it is of.
_PAID_KEY = "carbonmark_paid_"
# While Carbonmark is out of reach, the holder of a link could bring any number of ids.
MAX_OTHER_IDS = 20


@dataclass(frozen=True)
class LinkKey:
    """The task instance that made a link; the one address of the link within Airflow."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, task_instance: Any) -> LinkKey:
        ti = task_instance
        return cls(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)

    @property
    def awaits_key(self) -> str:
        """
        The XCom key under which a task says that it waits for this link's payment.

        One for each link: whoever waits for it, in whichever run, is found by the index that Airflow has on keys.
        """
        return f"carbonmark_awaits_{_digest(json.dumps(self.to_json()))}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def paid_key(payment_id: str) -> str:
    """Return the XCom key under which the task whose link a payment is verified to be for says so."""
    return f"{_PAID_KEY}{_digest(payment_id)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PaymentRecord:
    """
    What the buyers of one link came back with.

    :param payment_id: the payment of the link.
    :param verified: whether Carbonmark said that this payment is for this link.
    :param other_payment_ids: further ids that came for the same link, for a person to look at.
    """

    payment_id: str
    verified: bool
    other_payment_ids: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> PaymentRecord:
        return cls(kept["payment_id"], kept["verified"], tuple(kept["other_payment_ids"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"other_payment_ids": list(self.other_payment_ids)}

    def knows(self, payment_id: str) -> bool:
        return payment_id == self.payment_id or payment_id in self.other_payment_ids

    def with_payment(self, payment_id: str, *, verified: bool) -> PaymentRecord:
        """
        Return the record after one more return; pure.

        The first payment stays, unless nobody ever verified it and the new one is verified.

        :param payment_id: what the buyer came back with.
        :param verified: whether Carbonmark said that it is for this link.
        """
        if payment_id == self.payment_id:
            return replace(self, verified=self.verified or verified)
        if verified and not self.verified:
            others = [other for other in self.other_payment_ids if other != payment_id]
            return PaymentRecord(payment_id, True, (*others, self.payment_id)[-MAX_OTHER_IDS:])
        if payment_id in self.other_payment_ids or len(self.other_payment_ids) >= MAX_OTHER_IDS:
            return self
        return replace(self, other_payment_ids=(*self.other_payment_ids, payment_id))
