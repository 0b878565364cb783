"""What is raised where emissions can't be trusted, and how its message shows a value."""

from __future__ import annotations

_CHARACTERS_SHOWN = 80


class EmissionsError(ValueError):
    """The emissions can't be read, or can't be trusted; the message names place, value and remedy."""


def shown(value: object) -> str:
    """Give a value for a message, cut where it gets long."""
    text = repr(value)
    if len(text) <= _CHARACTERS_SHOWN:
        return text
    return f"{text[:_CHARACTERS_SHOWN]}… ({len(text):,} characters)"
