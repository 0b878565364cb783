"""Which credits are wanted: by listing, and by what is known of their project."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_carbonmark.api.errors import InvalidInputError
from airflow_provider_carbonmark.api.inputs import bare_methodology
from airflow_provider_carbonmark.emissions.names import entity_name

if TYPE_CHECKING:
    from airflow_provider_carbonmark.ledger.projects import Project

#: What credits stand for: emissions that were avoided or reduced, or carbon that was taken out of the air. What does both is neither.
MECHANISMS: Final = ("reduction", "removal")


@dataclass(frozen=True)
class ListingFilter:
    """
    Which credits are wanted; what is None or empty does not matter.

    Puro's credits (registry ``PUR``) are left out unless ``project_ids`` or ``registries`` asks for them: retiring
    them needs metadata that the checkout must then be given; see :func:`~airflow_provider_carbonmark.task_groups.purchase`.

    Names of countries, categories and methodologies are compared without letter case and surrounding space; ids of methodologies without
    punctuation too, since the market drops it (``AMS-I.D.`` is ``AMS-ID`` there, doc). A project may have several methodologies: one that is
    wanted is enough, and one that is excluded is too much. What the market doesn't tell passes neither: it can't be shown to be what is wanted,
    nor not to be what is excluded.

    :param project_ids: keys of projects, such as ``VCS-191``.
    :param registries: prefixes of project keys, such as ``VCS``.
    :param vintage_from: oldest vintage, a year; a listing without a vintage is then excluded.
    :param vintage_to: newest vintage, a year; likewise.
    :param countries: where the project is, as the market spells it, such as ``Brazil``.
    :param excluded_countries: where it is not.
    :param categories: of the project's methodologies, such as ``Forestry`` (doc: Agriculture, Biochar, Blue Carbon, Energy Efficiency,
        Forestry, Industrial Processing, Other, Renewable Energy, Waste Disposal).
    :param excluded_categories: those of which it has none.
    :param methodologies: ids, such as ``VM0042``.
    :param excluded_methodologies: those of which it has none.
    :param mechanism: ``reduction`` or ``removal``. A project that does both is neither: its credits can't be told apart.
    :param max_price_usd: highest price in USD per tonne, fees included.
    :param allow_ex_ante: take promises of future removal too.
    :param supply_margin: a listing's supply has to be this many times what is bought of it: stock goes within minutes (seen), and a
        link lives for hours. 1 asks for no more than is bought.
    :raises InvalidInputError: when a filter is of the wrong type, or lets nothing through.
    """

    project_ids: Collection[str] | None = None
    registries: Collection[str] | None = None
    vintage_from: int | None = None
    vintage_to: int | None = None
    countries: Collection[str] | None = None
    excluded_countries: Collection[str] | None = None
    categories: Collection[str] | None = None
    excluded_categories: Collection[str] | None = None
    methodologies: Collection[str] | None = None
    excluded_methodologies: Collection[str] | None = None
    mechanism: str | None = None
    max_price_usd: Decimal | None = None
    allow_ex_ante: bool = False
    supply_margin: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        for name in ("project_ids", "registries", *(name for fact in _BY_NAMES for name in fact.parameters)):
            _check_names(name, getattr(self, name))
        for fact in _BY_NAMES:
            wanted, excluded = fact.asked(self)
            if wanted and wanted <= excluded:
                raise InvalidInputError(
                    fact.wanted_by,
                    f"are all in {fact.excluded_by}, too",
                    value=getattr(self, fact.wanted_by),
                    remedy="Name what is wanted, or what is not",
                )
        if self.mechanism is not None and self.mechanism not in MECHANISMS:
            raise InvalidInputError(
                "mechanism", "is unknown", value=self.mechanism, remedy=f"Give {' or '.join(MECHANISMS)}"
            )
        if self.vintage_from and self.vintage_to and self.vintage_from > self.vintage_to:
            raise InvalidInputError(
                "vintage_from",
                f"is after vintage_to, {self.vintage_to}",
                value=self.vintage_from,
                remedy="Swap the two",
            )
        price = self.max_price_usd
        if price is not None and not (isinstance(price, Decimal) and price.is_finite() and price > 0):
            raise InvalidInputError(
                "max_price_usd",
                "is not a Decimal above zero",
                value=price,
                remedy='Give USD per tonne, such as Decimal("12.50")',
            )
        margin = self.supply_margin
        if not (isinstance(margin, Decimal) and margin.is_finite() and margin >= 1):
            raise InvalidInputError(
                "supply_margin",
                "is not a Decimal of at least 1",
                value=margin,
                remedy='Give how many times what is bought a listing must have, such as Decimal("1.5")',
            )

    @property
    def asked_of_projects(self) -> list[str]:
        """Which of its parameters ask for what only the market says of projects, or the deployment of their methodologies."""
        return [name for fact in _FACTS for name in fact.parameters if getattr(self, name)]

    def of_any_project(self) -> ListingFilter:
        """Return the same without these."""
        nothing: dict[str, Any] = dict.fromkeys(self.asked_of_projects)
        return replace(self, **nothing)


@dataclass(frozen=True)
class ProjectFacts:
    """
    What is known of the projects behind the listings.

    :param projects: by id, such as ``VCS-191``.
    :param mechanisms: ``reduction``, ``removal`` or ``both``, likewise.
    """

    projects: Mapping[str, Project] = field(default_factory=dict)
    mechanisms: Mapping[str, str] = field(default_factory=dict)

    def failures(self, filters: ListingFilter, project_id: str) -> Iterator[str]:
        """Name what a filter excludes a project for, of each fact that it asks for."""
        for fact in _FACTS:
            wanted, excluded = fact.asked(filters)
            if not wanted and not excluded:
                continue
            told = self._told(fact, project_id)
            has, is_all_told = {fact.bare(name) for name in told}, bool(told) and all(told)
            if has & excluded:
                yield fact.excluded
            elif excluded and not is_all_told:
                yield fact.unknown
            elif wanted and not has & wanted:
                yield fact.other if is_all_told else fact.unknown

    def shown(self, failure: str, project_id: str) -> str:
        """Return what the market says of what a project fails; empty where it says nothing."""
        project = self.projects.get(project_id)
        fact = next(fact for fact in _FACTS if failure in fact.failures)
        return ", ".join(sorted(set(filter(None, fact.of(project) if project else ()))))

    def _told(self, fact: _Fact, project_id: str) -> Collection[str]:
        """Return what is told of a project, with an empty text for what is not."""
        if fact is _MECHANISM:
            return [self.mechanisms.get(project_id, "")]
        project = self.projects.get(project_id)
        return fact.of(project) if project else ()


@dataclass(frozen=True)
class _Fact:
    """
    Something that a filter may ask of projects.

    :param of: what the market says of a project, with an empty text for what it doesn't.
    :param bare: takes away what makes no difference between two names.
    :param wanted_by: the filter's parameter.
    :param excluded_by: likewise; empty where none is.
    :param preposition: a project is in a country, of a category.
    """

    name: str
    of: Callable[[Project], Collection[str]]
    bare: Callable[[str], str]
    wanted_by: str
    excluded_by: str = ""
    preposition: str = "of"

    @property
    def other(self) -> str:
        return f"{self.preposition} another {self.name}"

    @property
    def excluded(self) -> str:
        return f"{self.preposition} an excluded {self.name}"

    @property
    def unknown(self) -> str:
        return f"where nothing is known of the project's {self.name}"

    @property
    def failures(self) -> tuple[str, str, str]:
        return self.other, self.excluded, self.unknown

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.wanted_by, self.excluded_by) if self.excluded_by else (self.wanted_by,)

    def asked(self, filters: ListingFilter) -> tuple[set[str], set[str]]:
        """Return the names of what is wanted and of what is not, bare."""
        return self._names(filters, self.wanted_by), self._names(filters, self.excluded_by)

    def _names(self, filters: ListingFilter, by: str) -> set[str]:
        names = (getattr(filters, by) if by else None) or ()
        return {self.bare(name) for name in ((names,) if isinstance(names, str) else names)}


def _check_names(field: str, names: object) -> None:
    remedy = 'Give a list, such as ["VCS"]'
    if isinstance(names, str):
        raise InvalidInputError(field, "is one text", value=names, remedy=remedy)
    is_list = isinstance(names, Collection) and all(isinstance(name, str) and name.strip() for name in names)
    if names is not None and not is_list:
        raise InvalidInputError(field, "is no list of names", value=names, remedy=remedy)


def _bare_name(name: str) -> str:
    # However its letters and spaces are encoded.
    return entity_name(name).casefold()


def _countries(project: Project) -> Collection[str]:
    return [project.country or ""]


def _categories(project: Project) -> Collection[str]:
    return [each.category for each in project.methodologies]


def _ids(project: Project) -> Collection[str]:
    return [each.id for each in project.methodologies]


_BY_NAMES: Final = (
    _Fact("country", _countries, _bare_name, "countries", "excluded_countries", "in"),
    _Fact("category", _categories, _bare_name, "categories", "excluded_categories"),
    _Fact("methodology", _ids, bare_methodology, "methodologies", "excluded_methodologies"),
)
# What the market says of it is by what methodologies it is worked out.
_MECHANISM: Final = _Fact("mechanism", _ids, str, "mechanism")
_FACTS: Final = (*_BY_NAMES, _MECHANISM)
#: Why a project is not what is wanted, as far as is known of it.
FAILURES_OF_PROJECTS: Final = tuple(failure for fact in _FACTS for failure in fact.failures)
#: Of these, what the deployment can say, and the market does not.
UNKNOWN_MECHANISM: Final = _MECHANISM.unknown
#: Lets everything through that can be bought without further ado.
ANY_CREDIT: Final = ListingFilter()
NOTHING_KNOWN: Final = ProjectFacts()
