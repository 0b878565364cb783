"""How answers are laid out, in each way carbonmark-api.md, section 3, expects."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_carbonmark.sandbox.market import number
from airflow_provider_carbonmark.sandbox.switches import ProofField, Switches

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.records import Checkout, PaymentView

PROOF_FIELDS: tuple[ProofField, ...] = get_args(ProofField)


def timestamp(moment: datetime) -> str:
    """Return a time as JavaScript writes it: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(value: Any) -> Any:
    """Return a value with decimals as numbers and times as text."""
    match value:
        case Decimal():
            return number(value)
        case datetime():
            return timestamp(value)
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
    return value


def checkout_answer(checkout: Checkout, base_url: str, switches: Switches) -> dict[str, Any]:
    """Lay out the answer of POST /checkout (seen: only the URL; assumed: the rest)."""
    answer = {"url": f"{base_url}/pay/{checkout.id}"}
    if switches.checkout_layout == "rich":
        answer |= {
            "id": checkout.id,
            "payment_id": checkout.payment_id,
            "expires_at": timestamp(checkout.expires_at),
        }
    return answer


def payment_answer(view: PaymentView, base_url: str, switches: Switches) -> dict[str, Any]:
    """Lay out the answer of GET /payments/{id} (assumed, all of it)."""
    checkout, payment = view.checkout, view.checkout.payment
    answer: dict[str, Any] = {
        "id": checkout.payment_id,
        "amount_usd": number(checkout.amount),
        "created_at": timestamp(payment.paid_at if payment else checkout.created_at),
    }
    _put(answer, switches.payment_status_at, spell(view.payment_status, switches))
    said = None if view.retirement_status is None else spell(view.retirement_status, switches)
    _put(answer, switches.retirement_status_at, said)
    parent = switches.retirement_status_at.rpartition(".")[0] if switches.proof_at == "beside" else ""
    for name, value in _proof(view, base_url).items():
        if name in switches.proof_fields:
            _put(answer, f"{parent}.{name}", value)
    completed_at = view.retirement.completed_at
    _put(answer, f"{parent}.completed_at", completed_at and timestamp(completed_at))
    place = "" if switches.bought_at == "top" else switches.bought_at
    if switches.bought_at != "untold":
        for name, value in _bought(view).items():
            _put(answer, f"{place}.{name}", value)
    if switches.echo_metadata:
        answer["metadata"] = dict(checkout.order.metadata)
    return answer


def spell(word: str, switches: Switches) -> str:
    """Return a status word as the switches want it said."""
    if word in switches.status_words:
        return switches.status_words[word]
    parts = word.split("_")
    match switches.status_spelling:
        case "lower_snake":
            return word.lower()
        case "Title Words":
            return " ".join(part.capitalize() for part in parts)
        case "kebab-case":
            return "-".join(part.lower() for part in parts)
        case "camelCase":
            return parts[0].lower() + "".join(part.capitalize() for part in parts[1:])
    return word


def _proof(view: PaymentView, base_url: str) -> dict[str, str | None]:
    proof = view.retirement.transaction
    if proof is None:
        return dict.fromkeys(PROOF_FIELDS)
    certificate = base_url + proof.certificate_path
    return {
        "view_retirement_url": certificate,
        "certificate_url": certificate,
        "transaction_hash": proof.hash,
        "on_chain_explorer_url": base_url + proof.explorer_path,
    }


def _bought(view: PaymentView) -> dict[str, Any]:
    return {
        "quantity_tonnes": number(view.retirement.quantity_tonnes),
        "asset_price_source_id": view.retirement.asset_price_source_id,
        "beneficiary_name": view.retirement.beneficiary_name,
        "retirement_message": view.retirement.retirement_message,
    }


def _put(answer: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = [part for part in path.split(".") if part]
    for parent in parents:
        answer = answer.setdefault(parent, {})
    answer[name] = value
