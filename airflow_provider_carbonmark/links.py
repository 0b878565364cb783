"""Buttons on the task page. Airflow asks for their addresses on the worker when the task ends, and keeps them as XComs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _AddressLink(BaseOperatorLink):
    """
    A link to an address that the task found; to nowhere while it has none, and to nothing but http(s).

    The address is read from the operator that just ran. Its result can't be: a task that fails or defers has none, and Airflow logs an
    error for each XCom that is asked for in vain.
    """

    attribute: str

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        url = getattr(operator, self.attribute, None)
        return url if isinstance(url, str) and url.lower().startswith(("https://", "http://")) else ""


class CheckoutLink(_AddressLink):
    """Opens what the task made: the address in this Airflow that can be paid as long as the purchase is open, else the payment page."""

    name = "Open checkout"
    attribute = "pay_url"


class RetirementLink(_AddressLink):
    """Opens the certificate of the retirement that the task waited for."""

    name = "View retirement"
    attribute = "certificate_url"
