"""Buttons on the task page. What they show is read when the task ends, on the worker, and kept as an XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _ResultLink(BaseOperatorLink):
    """A link to an address in the task's result; to nowhere when that is missing or anything but http(s)."""

    field: ClassVar[str]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        result = XCom.get_value(ti_key=ti_key, key="return_value")
        url = result.get(self.field) if isinstance(result, dict) else None
        return url if isinstance(url, str) and url.lower().startswith(("https://", "http://")) else ""


class CheckoutLink(_ResultLink):
    """Opens the payment page that the task made."""

    name = "Open checkout"
    field = "checkout_url"


class RetirementLink(_ResultLink):
    """Opens the certificate of the retirement that the task waited for."""

    name = "View retirement"
    field = "certificate_url"
