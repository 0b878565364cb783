"""What OpenLineage is told of a plan and of a retirement. Only OpenLineage asks, so nothing else imports this, nor needs what it imports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.openlineage.facet import Dataset, RunFacet
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.providers.openlineage.sqlparser import SQLParser
from attrs import define, field
from sqlalchemy import make_url

from airflow_provider_carbonmark.hooks.ledger import ledger_conn_id, ledger_path
from airflow_provider_carbonmark.ledger.tables.schema import allocations, purchases

if TYPE_CHECKING:
    from airflow_provider_carbonmark.emissions import EntityEmissions
    from airflow_provider_carbonmark.ledger.purchase import Purchase

_PACKAGE: Final = "airflow-provider-carbonmark"
#: Under which name a retirement is among the facets of a run.
RETIREMENT_FACET: Final = "carbonmark_retirement"

# OpenLineage's naming (seen: openlineage-python 1.54) knows these stores as s3 and gs only; what other clients call them is ours to translate.
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_LOCAL = frozenset({"file", "local"})
# What follows the question mark of a web address may be a password.
_WEB = frozenset({"http", "https"})


@define
class CarbonmarkRetirementRunFacet(RunFacet):  # type: ignore[misc]  # where the type checker runs, there is no OpenLineage
    """
    A retirement that is recorded in the ledger, named as OpenLineage names: in camel case.

    :param ledger: the id of the ledger.
    :param purchase: its number in there.
    :param testMode: whether it is a rehearsal, which retires nothing.
    :param quantityTonnes: of CO2e, a decimal string.
    :param retiredAt: ISO 8601, UTC.
    :param retiredAtTold: whether Carbonmark told that time, else it is when we looked; None where nobody kept that.
    :param months: for which emissions, ``YYYY-MM``; none where no plan says.
    :param entities: of how many entities.
    """

    ledger: str
    purchase: int
    testMode: bool
    quantityTonnes: str
    projectId: str | None
    registry: str | None
    vintage: int | None
    beneficiaryName: str
    retirementMessage: str
    certificateUrl: str | None
    transactionHash: str | None
    retiredAt: str | None
    retiredAtTold: bool | None
    months: list[str]
    entities: int
    # Who says so: by default it would be Airflow's provider.
    _producer: str = field(default=f"pkg:pypi/{_PACKAGE}@{version(_PACKAGE)}", kw_only=True)


def lineage_of_plan(
    task: BaseOperator, emissions: Sequence[EntityEmissions], *, is_preview: bool
) -> OperatorLineage:
    """Say what a plan for emissions was made from, and, unless it is a preview, where it was written."""
    written = [*_ledger(purchases.name, allocations.name), *_declared(task.outlets)]
    return OperatorLineage(
        inputs=_once([*_sources(emissions), *_declared(task.inlets)]),
        outputs=[] if is_preview else _once(written),
    )


def lineage_of_retirement(task: BaseOperator, purchase: Purchase) -> OperatorLineage:
    """Say what was retired, and where that is recorded."""
    recorded = purchase.to_json()
    facet = CarbonmarkRetirementRunFacet(
        ledger=purchase.ledger,
        purchase=purchase.id,
        testMode=purchase.test_mode,
        quantityTonnes=recorded["quantity_tonnes"],
        projectId=purchase.project_id,
        registry=purchase.registry,
        vintage=purchase.vintage,
        beneficiaryName=purchase.beneficiary_name,
        retirementMessage=purchase.retirement_message,
        certificateUrl=purchase.certificate_url,
        transactionHash=purchase.transaction_hash,
        retiredAt=purchase.retired_at.isoformat() if purchase.retired_at else None,
        retiredAtTold=purchase.retired_at_told,
        months=recorded["months"],
        entities=recorded["entities"],
    )
    books = _ledger(purchases.name)
    return OperatorLineage(
        inputs=_once([*books, *_declared(task.inlets)]),
        outputs=_once([*books, *_declared(task.outlets)]),
        run_facets={RETIREMENT_FACET: facet},
    )


def _sources(emissions: Iterable[EntityEmissions]) -> Iterable[Dataset]:
    """Name the files and tables that emissions were read from; many entities are of the same ones."""
    read = {id(each.files): each.files for each in emissions}
    for path in dict.fromkeys(file.path for files in read.values() for file in files):
        yield from _file(path)
    for query in dict.fromkeys(each.query for each in emissions if each.query):
        yield from _tables(query.conn_id, query.sql)


def _file(path: str) -> Iterable[Dataset]:
    """Name a file, unless nobody knows where it was; who reads it there is left out."""
    scheme, separator, rest = path.partition("://")
    if not separator or scheme in _LOCAL:
        local = rest if separator else path
        if os.path.isabs(local):
            yield Dataset(namespace="file", name=local)
        return
    authority, _, name = rest.partition("/")
    scheme = _SCHEMES.get(scheme, scheme)
    # Airflow's connection, or a user with a password, stands before the @.
    where = f"{scheme}://{authority.rpartition('@')[2]}"
    yield Dataset(namespace=where, name=name.partition("?")[0] if scheme in _WEB else name)


def _ledger(*tables: str) -> list[Dataset]:
    if conn_id := ledger_conn_id():
        return [found for table in tables for found in _tables(conn_id, f"SELECT 1 FROM {table}")]
    return [_in_sqlite(str(ledger_path()), table) for table in tables]


def _tables(conn_id: str, sql: str) -> Iterable[Dataset]:
    """Name the tables that a query reads, as far as the hook of its database knows how they are named."""
    hook: Any = BaseHook.get_hook(conn_id)
    connection = hook.get_connection(conn_id)
    if hook.conn_type == "sqlite":  # which has no hosts, and which OpenLineage's naming doesn't know
        file = make_url(hook.get_uri()).database or ""
        return [_in_sqlite(file, table.name) for table in _parsed(sql, "sqlite", None)]
    database = hook.get_openlineage_database_info(connection)
    if database is None:
        return []
    # Where it has none, as in MySQL, the database itself is what a table is in.
    schema = hook.get_openlineage_default_schema() or connection.schema
    found = []
    for table in _parsed(sql, hook.get_openlineage_database_dialect(connection), schema):
        name = ".".join(filter(None, (table.database or database.database, table.schema, table.name)))
        name = name.upper() if database.is_uppercase_names else name
        found.append(Dataset(namespace=SQLParser.create_namespace(database), name=name))
    return found


def _parsed(sql: str, dialect: str, schema: str | None) -> Sequence[Any]:
    """Return the tables that a query reads; none where it can't be told."""
    parser = SQLParser(dialect=dialect, default_schema=schema)
    parsed = parser.parse(parser.split_sql_string(sql))
    return parsed.in_tables if parsed else ()


def _in_sqlite(file: str, table: str) -> Dataset:
    return Dataset(namespace=f"sqlite://{os.path.abspath(file)}", name=table)


def _declared(assets: Iterable[Any]) -> Iterable[Dataset]:
    """Name what the DAG's author says that the task reads or writes: OpenLineage doesn't look there once it is told something."""
    return filter(None, map(ExtractorManager.convert_to_ol_dataset, assets))


def _once(datasets: Iterable[Dataset]) -> list[Dataset]:
    return list({(each.namespace, each.name): each for each in datasets}.values())
