"""What the service refuses, and in which of its two known shapes it says so."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.switches import ErrorShape


class ServiceRefusal(Exception):
    """
    The service answers with an error.

    :param status: HTTP status.
    :param message: what is wrong, for people.
    :param name: the error's name in the shape ``{"message", "name"}``.
    :param code: the error's code in the market API's shape, such as ``LISTING_NOT_FOUND``.
    """

    def __init__(self, status: int, message: str, *, name: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.name = name
        self.code = code


def bad_request(message: str, code: str = "VALIDATION_ERROR") -> ServiceRefusal:
    return ServiceRefusal(400, message, name="BadRequestError", code=code)


def not_found(message: str, code: str = "NOT_FOUND") -> ServiceRefusal:
    return ServiceRefusal(404, message, name="NotFoundError", code=code)


def conflict(message: str, code: str) -> ServiceRefusal:
    return ServiceRefusal(409, message, name="ConflictError", code=code)


def expired() -> ServiceRefusal:
    message = "This checkout has expired. Nothing was charged."
    return ServiceRefusal(410, message, name="GoneError", code="CHECKOUT_EXPIRED")


def error_answer(status: int, message: str, *, name: str, code: str, shape: ErrorShape) -> dict[str, Any]:
    """Write an error as JSON: seen at the Checkout Service's predecessor, or assumed from the market API."""
    if shape == "message_name":
        return {"message": message, "name": name}
    return {"statusCode": status, "error": HTTPStatus(status).phrase, "message": message, "code": code}
