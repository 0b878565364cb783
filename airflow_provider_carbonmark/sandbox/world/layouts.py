"""How answers are laid out, in each way carbonmark-api.md, section 3, expects."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

from fastapi.responses import JSONResponse

from airflow_provider_carbonmark.sandbox.switches import ProofField, Switches

if TYPE_CHECKING:
    from airflow_provider_carbonmark.sandbox.world.records import Checkout, PaymentView

PROOF_FIELDS: tuple[ProofField, ...] = get_args(ProofField)
BOUGHT_FIELDS = ("quantity_tonnes", "asset_price_source_id", "beneficiary_name", "retirement_message")


def timestamp(moment: datetime) -> str:
    """Return a time as JavaScript writes it: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Answer(JSONResponse):
    """JSON whose decimals are numbers written with the same digits, and whose times are as JavaScript writes them."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Decimal | datetime) -> int | float | str:
    if isinstance(value, datetime):
        return timestamp(value)
    return int(value) if value == value.to_integral_value() else float(value)


def checkout_answer(checkout: Checkout, base_url: str, switches: Switches) -> dict[str, Any]:
    """Lay out the answer of POST /checkout (seen: only the URL; assumed: the rest)."""
    answer: dict[str, Any] = {"url": f"{base_url}/pay/{checkout.id}"}
    if switches.checkout_layout != "url":
        answer[switches.expiry_field] = checkout.expires_at
    if switches.checkout_layout == "rich":
        answer |= {"id": checkout.id, "payment_id": checkout.payment_id}
    return answer


def payment_answer(view: PaymentView, base_url: str, switches: Switches) -> dict[str, Any]:
    """Lay out the answer of GET /payments/{id} (assumed, all of it)."""
    checkout, payment = view.checkout, view.checkout.payment
    answer: dict[str, Any] = {
        "id": checkout.payment_id,
        "amount_usd": checkout.amount,
        "created_at": payment.paid_at if payment else checkout.created_at,
    }
    _put(answer, switches.payment_status_at, spell(view.payment_status, switches))
    said = None if view.retirement_status is None else spell(view.retirement_status, switches)
    _put(answer, switches.retirement_status_at, said)
    parent = switches.retirement_status_at.rpartition(".")[0] if switches.proof_at == "beside" else ""
    for name, value in _proof(view, base_url).items():
        if name in switches.proof_fields:
            _put(answer, f"{parent}.{name}", value)
    _put(answer, f"{parent}.completed_at", view.retirement.completed_at)
    if view.retirement.message:
        _put(answer, f"{parent}.message", view.retirement.message)
    if switches.bought_at != "untold":
        place = "" if switches.bought_at == "top" else switches.bought_at
        for name in BOUGHT_FIELDS:
            _put(answer, f"{place}.{name}", getattr(view.retirement, name))
    if switches.echo_metadata:
        answer["metadata"] = checkout.order.metadata.model_dump()
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


def _put(answer: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = [part for part in path.split(".") if part]
    for parent in parents:
        answer = answer.setdefault(parent, {})
    answer[name] = value
