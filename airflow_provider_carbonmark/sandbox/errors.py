"""What the service refuses, and in which of its two known shapes it says so."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_carbonmark.sandbox.switches import ErrorShape

#: Name and usual code of a status.
NAMES = {
    401: ("UnauthorizedError", "UNAUTHORIZED"),
    402: ("CardError", "CARD_DECLINED"),
    403: ("ForbiddenError", "FORBIDDEN"),
    404: ("NotFoundError", "NOT_FOUND"),
    405: ("MethodNotAllowedError", "METHOD_NOT_ALLOWED"),
    409: ("ConflictError", "CONFLICT"),
    410: ("GoneError", "CHECKOUT_EXPIRED"),
    422: ("IdempotencyError", "IDEMPOTENCY_KEY_REUSED"),
}


class ServiceRefusal(Exception):
    """
    The service answers with an error.

    :param status: HTTP status.
    :param message: what is wrong, for people.
    :param code: the error's code in the market API's shape, such as ``LISTING_NOT_FOUND``; by itself the status's usual one.
    :param name: the error's name in the predecessor's shape; by itself the status's usual one.
    """

    def __init__(self, status: int, message: str, code: str = "", name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        usual_name, usual_code = NAMES.get(status, ("BadRequestError", "BAD_REQUEST"))
        self.name = name or usual_name
        self.code = code or usual_code


def bad_request(message: str) -> ServiceRefusal:
    return ServiceRefusal(400, message, "VALIDATION_ERROR")


def expired() -> ServiceRefusal:
    return ServiceRefusal(410, "This checkout has expired. Nothing was charged.")


def too_cheap(amount: Decimal, least: Decimal) -> ServiceRefusal:
    """Return the one refusal of the predecessor whose name is known (seen; assumed: its status and code)."""
    message = f"The least that can be paid is {least:.2f} USD, and this costs {amount} USD"
    return ServiceRefusal(400, message, "MIN_PURCHASE_REQUIRED", "MinPurchaseRequired")


def error_answer(status: int, message: str, *, name: str, code: str, shape: ErrorShape) -> dict[str, Any]:
    """Write an error as JSON: seen at the Checkout Service's predecessor, or assumed from the market API."""
    if shape == "message_name":
        return {"message": message, "name": name}
    return {"statusCode": status, "error": HTTPStatus(status).phrase, "message": message, "code": code}
