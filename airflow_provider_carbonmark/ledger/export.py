"""All rows of all tables, as they are kept, for whoever keeps or audits a copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from airflow_provider_carbonmark.ledger.tables.schema import metadata, versions

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: What is left out: whoever has the key can make addresses that buyers come back to.
SECRET: Final = (versions.c.signing_key,)


def rows(connection: Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each row with its table's name, those first that others speak of."""
    for table in metadata.sorted_tables:
        shown = [column for column in table.columns if column not in SECRET]
        query = select(*shown).order_by(*table.primary_key)
        for row in connection.execution_options(stream_results=True).execute(query).mappings():
            yield table.name, dict(row)
