"""The report's files: each whole, or as it was before; and which they are, with what proves that they are the same."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from airflow_provider_carbonmark.api.inputs import on_local_disk


class Folder(Protocol):
    """What is asked of a path."""

    def open(self, mode: str) -> Any: ...

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None: ...

    def __truediv__(self, name: str) -> Any: ...


def write(path: Any, text: Iterable[str]) -> str:
    """
    Write a file in place of an earlier one.

    On a local disk a reader finds the old file or the new one, whole. Object stores show a file once it is complete; other file
    systems, such as SFTP, may show a part of it while it is being written.

    :param path: a ``pathlib.Path``, an ``ObjectStoragePath``, or anything like them.
    :param text: what to write, in pieces: there may be more of it than fits a worker's memory.
    :return: SHA-256 of what was written, in hexadecimal digits.
    """
    digest = hashlib.sha256()
    with _place_of(path) as stream:
        for piece in text:
            content = encoded(piece)
            digest.update(content)
            stream.write(content)
    return digest.hexdigest()


def encoded(text: str) -> bytes:
    """Return text as it is written; what others wrote may have signs that can't be."""
    return text.encode("utf-8", "replace")


@contextmanager
def _place_of(path: Any) -> Iterator[Any]:
    local = on_local_disk(path)
    if local is None:
        with path.open("wb") as stream:
            yield stream
        return
    # Beside its place, because only within a file system is a file moved at once.
    unfinished = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as stream:
            yield stream
        unfinished.replace(local)
    finally:
        unfinished.unlink(missing_ok=True)
