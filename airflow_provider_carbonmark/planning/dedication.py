"""What the certificates will say, and so what is bought together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter
from typing import Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import MAX_BENEFICIARY_NAME, MAX_RETIREMENT_MESSAGE, parse_text
from airflow_provider_carbonmark.ledger.values import REFERENCE, plain, spans

#: What tells purchases apart, and what speaks of a whole purchase.
_APART: Final = ("entity", "month")
_OF_PURCHASE: Final = ("months", "emitted_tonnes", "quantity_tonnes")
_FIELDS: Final = (*_APART, *_OF_PURCHASE)


@dataclass(frozen=True)
class Dedication:
    """
    What the certificates will say: texts with fields.

    ``{entity}`` and ``{month}`` tell apart: what they make different texts of is bought apart, everything else together. ``{months}``,
    ``{emitted_tonnes}`` and ``{quantity_tonnes}`` speak of the whole purchase. ``{reference}``, in the message, is what tells a purchase
    from others that ask for just the same; the ledger puts it there with the purchase's number.

    :param beneficiary_name: such as ``Example Corp`` or ``Example Corp, {entity}``.
    :param retirement_message: such as ``Emissions of {months}: {emitted_tonnes} t CO2e``.
    :raises InvalidInputError: when a text is empty or too long, has other fields, or formats them.
    """

    beneficiary_name: str
    retirement_message: str

    def __post_init__(self) -> None:
        _check_fields(self.beneficiary_name, "beneficiary_name", _FIELDS)
        _check_fields(self.retirement_message, "retirement_message", (*_FIELDS, "reference"))
        # Too long for the shortest facts is too long for all.
        self.of("x", "2026-10", ["2026-10"], Decimal(1), Decimal(1))

    def apart(self, entity: str, month: str) -> tuple[str, str]:
        """Give what is the same for all that is bought together: the texts, as far as an entity and a month decide them."""
        as_is = {field: f"{{{field}}}" for field in (*_OF_PURCHASE, "reference")}
        facts = as_is | {"entity": entity, "month": month}
        return self.beneficiary_name.format(**facts), self.retirement_message.format(**facts)

    def of(
        self,
        entity: str,
        month: str,
        months: Collection[str],
        emitted_tonnes: Decimal,
        quantity_tonnes: Decimal,
    ) -> tuple[str, str]:
        """
        Give the beneficiary's name and the message for a purchase.

        :param entity: one of those that it is for; with ``month``.
        :param months: all those that it is for.
        :raises InvalidInputError: when one is too long for a certificate, or has control characters.
        """
        facts = {
            "entity": entity,
            "month": month,
            "months": ", ".join(spans(months)),
            "emitted_tonnes": plain(emitted_tonnes),
            "quantity_tonnes": plain(quantity_tonnes),
            "reference": REFERENCE,
        }
        return (
            parse_text(self.beneficiary_name.format(**facts), "beneficiary_name", MAX_BENEFICIARY_NAME),
            parse_text(self.retirement_message.format(**facts), "retirement_message", MAX_RETIREMENT_MESSAGE),
        )


def _check_fields(template: object, name: str, known: Sequence[str]) -> None:
    """Let nothing through but the plain fields: a person who starts a run may write the template."""
    remedy = f"Use {', '.join(f'{{{field}}}' for field in known)}, and write {{{{ and }}}} for braces"
    if not isinstance(template, str):
        raise InvalidInputError(name, "is not text", value=template, remedy=remedy)
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise InvalidInputError(name, "has a single brace", value=template, remedy=remedy) from None
    for _, field, layout, conversion in parts:
        if field is not None and field not in known:
            raise InvalidInputError(name, f"has the unknown field {field!r}", value=template, remedy=remedy)
        if layout or conversion:
            raise InvalidInputError(name, f"lays {field} out", value=template, remedy=remedy)
