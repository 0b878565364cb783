"""Units of mass, as providers write them, in tonnes; and arithmetic that is exact or refused."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import lru_cache
from typing import Final

#: For amounts as they are read: 1,000 digits hold any float, and an absurd exponent can't fill the memory.
AMOUNTS: Final = Context(prec=1000, Emin=-1000, Emax=900, traps=[Inexact, Overflow, InvalidOperation])
#: For tonnes: holds any sum of products of what AMOUNTS lets through.
TONNES: Final = Context(prec=4000, traps=[Inexact])

_CARBON_DIOXIDE = re.compile(r"(?:of)?co[2₂](?:-?(?:eq?|equivalents?))?$", re.IGNORECASE)
_TONNES_PER_UNIT = {
    **dict.fromkeys(("g", "gram", "grams"), Decimal("0.000001")),
    **dict.fromkeys(("kg", "kilogram", "kilograms"), Decimal("0.001")),
    **dict.fromkeys(
        ("t", "tonne", "tonnes", "metricton", "metrictons", "metrictonne", "metrictonnes"), Decimal(1)
    ),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), Decimal("0.00045359237")),  # exact by definition
}
UNITS_ACCEPTED: Final = (
    "accepted are g, kg, t (tonne, metric ton) and lb in any letter case, also with CO2 or CO2e; MT, MTCO2e and mtCO2e "
    "are metric tonnes, while Mt and mt may be megatonnes, and tons may be short ones: these are refused"
)


@lru_cache(maxsize=64)
def tonnes_per(unit: str) -> Decimal | None:
    """Return what amounts of a unit are to be multiplied with; None for an unknown unit."""
    written = re.sub(r"[\s_]", "", unit).removesuffix(".")
    mass = _CARBON_DIOXIDE.sub("", written)
    if mass == "MT" or (mass == "mt" and mass != written):
        return Decimal(1)
    return _TONNES_PER_UNIT.get(mass.casefold())
