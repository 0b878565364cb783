"""What is bought together: needs whose certificates will say the same, and how a purchase is shared out among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_carbonmark.ledger.values import EXACT, Need, Share, share_of_cost, spans, total
from airflow_provider_carbonmark.planning.market import kilograms_up

if TYPE_CHECKING:
    from airflow_provider_carbonmark.planning.dedication import Dedication

_DIGITS = 9  # of a tonne, which is what the ledger keeps


@dataclass(frozen=True)
class Pool:
    """Needs that are bought together, the oldest month first, then by entity."""

    needs: Sequence[Need]

    @cached_property
    def kilograms(self) -> int:
        """What is to be bought: rounded up once, for all of them."""
        return kilograms_up(total(need.offset_tonnes for need in self.needs))

    def __str__(self) -> str:
        if len(self.needs) == 1:
            return f"{self.needs[0].entity} in {self.needs[0].month}"
        months = ", ".join(spans({need.month for need in self.needs}))
        return f"{len({need.entity for need in self.needs})} entities in {months}"

    def shares(
        self, parts: Iterable[tuple[Decimal, Decimal]], *, in_proportion: bool
    ) -> Iterator[list[Share]]:
        """
        Share purchases out among the needs; what was rounded up at the last purchase is nobody's.

        :param parts: tonnes and USD of each purchase.
        :param in_proportion: each need gets the same part of every purchase, to 10^-9 t; so what it costs is what the solver reckons
            with. Otherwise one need is filled after the other, which makes few shares of many needs.
        :return: for each purchase its shares.
        """
        missing = [_nanotonnes(need.offset_tonnes) for need in self.needs]
        for quantity, cost in parts:
            all_missing = sum(missing)
            bought = min(_nanotonnes(quantity), all_missing)
            shares: list[Share] = []
            passed = handed_out = 0
            for at, (need, amount) in enumerate(zip(self.needs, missing, strict=True)):
                passed += amount
                # What is handed out so far is rounded, not each share: so they add up, and none is more than is missing.
                due = passed * bought // all_missing if in_proportion else min(passed, bought)
                if part := due - handed_out:
                    tonnes = Decimal(part).scaleb(-_DIGITS, EXACT).normalize(EXACT)
                    share = share_of_cost(cost, tonnes, quantity)
                    shares.append(Share(need.entity, need.month, need.emitted_tonnes, tonnes, share))
                missing[at], handed_out = amount - part, due
            yield shares


def _nanotonnes(tonnes: Decimal) -> int:
    return int(tonnes.scaleb(_DIGITS, EXACT))


def pooled(needs: Iterable[Need], dedication: Dedication) -> list[Pool]:
    """Put together what the texts don't tell apart; in the order of the first need of each."""
    together: dict[tuple[str, str], list[Need]] = {}
    for need in sorted(needs, key=lambda need: (need.month, need.entity)):
        together.setdefault(dedication.apart(need.entity, need.month), []).append(need)
    pools = (Pool(tuple(of_text)) for of_text in together.values())
    return sorted(pools, key=lambda pool: (pool.needs[0].entity, pool.needs[0].month))
