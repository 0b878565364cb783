"""What people who pay are told, before anybody knows in which language: plain Python, cheap to import."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal


class Words:
    """
    A whole sentence, or several. ``str()`` says it in English.

    Babel finds the text by this class's name, so it has to be a literal there.

    :param text: in English, with ``%(name)s`` where a value goes.
    :param values: the values by their names: USD as Decimal, aware times, anything else as it is to be read.
    """

    def __init__(self, text: str, **values: Decimal | datetime | int | str) -> None:
        self.text, self.values = text, values

    def __str__(self) -> str:
        return self.text % {name: _in_english(value) for name, value in self.values.items()}


def _in_english(value: Decimal | datetime | int | str) -> str:
    if isinstance(value, Decimal):
        return f"{value:f} USD"
    return f"{value:%Y-%m-%d %H:%M} UTC" if isinstance(value, datetime) else str(value)
