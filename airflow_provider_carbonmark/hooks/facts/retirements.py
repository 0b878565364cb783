"""What the market tells of retirements, for the ledger and for reports: after the proof, and never in the way of it."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
    CarbonmarkError,
    NotFoundError,
    RateLimitedError,
    ServiceError,
    TransportError,
)
from airflow_provider_carbonmark.api.inputs import on_local_disk
from airflow_provider_carbonmark.api.retirement import is_told_as, retirement_id_in, transaction_in
from airflow_provider_carbonmark.api.retries import NO_RETRIES
from airflow_provider_carbonmark.ledger.names import State

if TYPE_CHECKING:
    from airflow_provider_carbonmark.api.client import CarbonmarkClient
    from airflow_provider_carbonmark.api.models import Certificate, Retirement
    from airflow_provider_carbonmark.hooks.carbonmark import CarbonmarkHook
    from airflow_provider_carbonmark.ledger.book import Ledger
    from airflow_provider_carbonmark.ledger.purchase import Purchase
    from airflow_provider_carbonmark.ledger.retirements import RetirementFacts

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Where certificates are, within a report's folder.
CERTIFICATES: Final = "certificates"
# Seconds for one request about a retirement: the task that recorded it waits for that.
_LONGEST_REQUEST = 10.0
# Seconds after which nothing more is asked for in one call: what is left is asked for by a later one.
_LONGEST_CALL = 300.0
# Trouble of the market's and of the connection, whatever it is asked for.
_OF_ALL = (TransportError, RateLimitedError, ServiceError, AccessDeniedError)


def learn_of_retirements(ledger: Ledger, hook: CarbonmarkHook, ids: Collection[int]) -> None:
    """
    Read and keep what the market tells of retirements that are recorded; of rehearsals there is nothing to tell. Never raises.

    What can't be read now, housekeeping reads later.
    """
    try:
        _learn(ledger, hook, ids)
    # Of whatever kind: the retirement is recorded by now, and a task that fails after that would say otherwise.
    except Exception:
        log.warning("What the market tells of retirements can't be read or kept now", exc_info=True)


def _learn(ledger: Ledger, hook: CarbonmarkHook, ids: Collection[int]) -> None:
    # Imported late: a DAG file needs no client.
    from airflow_provider_carbonmark.api.client import CarbonmarkClient

    purchases = {
        each.id: each for each in ledger.purchases(ids) if each.state is State.RETIRED and not each.test_mode
    }
    if not purchases:
        return
    known = {each.purchase: each.retirement_id for each in ledger.retirements(purchases)}
    settings = hook.connection.settings
    settings = replace(settings, timeout=min(settings.timeout, _LONGEST_REQUEST))
    with CarbonmarkClient(settings, retries=NO_RETRIES) as client:
        for _, facts in _told(
            "the retirement", purchases, lambda id: _facts(ledger, client, purchases[id], known.get(id))
        ):
            if facts:
                ledger.keep_retirements([facts])


def _facts(
    ledger: Ledger, client: CarbonmarkClient, purchase: Purchase, known_id: str | None
) -> RetirementFacts | None:
    """
    Return what the market tells of a purchase's retirement; None where nothing says which one that is.

    Which credits it was, where no plan said so, the ledger has first: cut off after that, the rest is still missing, and asked for again.
    """
    # Imported late: a DAG file needs none of SQLAlchemy.
    from airflow_provider_carbonmark.ledger.retirements import RetirementFacts

    retirement_id = known_id or retirement_id_in(purchase.certificate_url)
    told = client.get_retirement(retirement_id) if retirement_id else _find(client, purchase)
    if told is None:
        return None
    if is_told_as(told, purchase.beneficiary_name, purchase.quantity_tonnes) is False:
        log.warning(
            "The market tells of retirement %s that it is %s t for %r, which is not that of %s: check at Carbonmark whose it is",
            *(retirement_id, told.quantity_tonnes, told.beneficiary_name, purchase),
        )
        return None
    if told.project_id and not purchase.project_id:
        ledger.credits_told(purchase.id, told.project_id, told.vintage)
    retirement_id = retirement_id or str(told.id)
    return RetirementFacts(
        purchase=purchase.id,
        retirement_id=retirement_id,
        retired_at=told.retired_at,
        retiring_name=told.retiring_name,
        serial_numbers=_serial_numbers(client, retirement_id),
        bridge=told.bridge,
        read_at=datetime.now(UTC),
    )


def _find(client: CarbonmarkClient, purchase: Purchase) -> Retirement | None:
    """Return the only retirement of the purchase's transaction that is in its beneficiary's name and of its amount."""
    transaction = transaction_in(purchase.transaction_hash, purchase.explorer_url)
    if transaction is None:
        log.warning("Neither an id nor a transaction tells which retirement is that of %s", purchase)
        return None
    wanted = purchase.beneficiary_name, purchase.quantity_tonnes
    told = client.list_retirements(transaction)
    fitting = [each for each in told if each.id and is_told_as(each, *wanted)]
    if len(fitting) != 1:
        log.warning(
            "The market tells of %d retirements in transaction %s, of which %d fit %s: none is taken for its",
            *(len(told), transaction, len(fitting), purchase),
        )
        return None
    return fitting[0]


def _serial_numbers(client: CarbonmarkClient, retirement_id: str) -> tuple[str, ...]:
    """Return the serial numbers that the market tells; none keeps nothing else from being kept."""
    try:
        records = client.get_provenance(retirement_id)
    except CarbonmarkError as error:
        # Not told of some credits ever, which is a 404, too.
        log.info("The serial numbers of retirement %s are not told now: %s", retirement_id, error)
        return ()
    # seen: they are on this one.
    origins = (each for each in records if each.transaction_type.upper() == "ORIGINATION")
    serials = (serial for each in origins for serial in each.registry_serial_numbers or () if serial)
    return tuple(dict.fromkeys(serials))


def fetch_certificates(
    ledger: Ledger, hook: CarbonmarkHook, purchases: Collection[int], folder: Any
) -> dict[int, str]:
    """
    Store certificates beside a report, as ``certificates/<purchase>.pdf`` (or ``png``, ``jpg``), and keep their SHA-256 in the ledger.

    Give the same folder for all reports: a service may make a certificate anew whenever it is asked for (seen of its predecessor), and no
    two of them are the same then. The first that is stored counts, wherever that is: another one, now or in another folder, is a warning
    in the log and not stored. What is stored is not asked for, but read again each time: what is not the first any more is an error in
    the log, and left as it is.

    Certificates come late, so a retirement without one is no error: call this with every report. The market's troubles raise nothing;
    those of the folder and of the ledger do. No certificate is asked for after five minutes: the next call asks for what is left.

    A call that is cut off is finished by the next one:

    - before a file is stored, nothing has happened. On a local disk it is whole or not there at all; object stores show it once it is
      complete; what another file system shows of one that was cut off is no whole document, and is removed.
    - after that, its SHA-256 is not kept: the next call keeps it. So the ledger never has that of a file that nobody stored.

    Of two calls at once, on a local disk the second finds what the first stored. Elsewhere a file of both may be the second's, and the
    ledger's SHA-256 the first's: it is removed then, with a warning in the log. Let one report be made at a time.

    :param purchases: numbers; those of whose retirements nothing is known (:func:`learn_of_retirements`) are left out.
    :param folder: a ``pathlib.Path`` or an ``ObjectStoragePath``; made where it is missing.
    :return: where each certificate is that is stored and counts, below the folder, such as ``certificates/17.pdf``, by purchase. Its
        SHA-256 is in ``Ledger.retirements`` from now on.
    """
    from airflow_provider_carbonmark.api.models import SUFFIXES

    place = (on_local_disk(folder) or folder) / CERTIFICATES
    there = {path.name for path in place.iterdir()} if place.is_dir() else set()
    stored: dict[int, str] = {}
    missing: dict[int, RetirementFacts] = {}
    for facts in ledger.retirements(purchases):
        names = (f"{facts.purchase}.{suffix}" for suffix in SUFFIXES)
        name = next((name for name in names if name in there), None)
        is_first = _check(ledger, facts, place / name) if name else None
        if is_first is None:
            missing[facts.purchase] = facts
        elif name and is_first:
            stored[facts.purchase] = name
    for purchase, certificate in _certificates(hook, missing):
        if name := _store(ledger, missing[purchase], certificate, place):
            stored[purchase] = name
    return {purchase: f"{CERTIFICATES}/{name}" for purchase, name in sorted(stored.items())}


def _certificates(
    hook: CarbonmarkHook, missing: dict[int, RetirementFacts]
) -> Iterator[tuple[int, Certificate]]:
    if not missing:
        return
    try:
        client = hook.get_conn(NO_RETRIES)
    except (CarbonmarkError, AirflowNotFoundException) as error:
        log.warning("%d certificates can't be asked for: %s", len(missing), error)
        return
    with client:
        yield from _told(
            "the certificate", missing, lambda id: client.get_certificate(missing[id].retirement_id)
        )


def _told(what: str, ids: Collection[int], ask: Callable[[int], T]) -> Iterator[tuple[int, T]]:
    """Give what the market tells of purchases, one by one, as far as it tells anything now."""
    # In any order: what is the matter with one of them must not keep the others from ever being asked for.
    waiting = random.sample(list(ids), len(ids))
    until = time.monotonic() + _LONGEST_CALL
    while waiting and time.monotonic() < until:
        id = waiting.pop()
        try:
            told = ask(id)
        except NotFoundError as error:
            log.info("The market doesn't tell of %s of purchase %d yet: %s", what, id, error)
        except CarbonmarkError as error:
            log.warning("What the market tells of %s of purchase %d can't be read: %s", what, id, error)
            if isinstance(error, _OF_ALL):
                break
        else:
            yield id, told
    if waiting:
        log.warning("Not asked for %s of %d purchases, which is left to a later time", what, len(waiting))


def _check(ledger: Ledger, facts: RetirementFacts, path: Any) -> bool | None:
    """Tell whether a file that is there is the certificate that counts; None when it was only the remains of one, and is gone now."""
    content = path.read_bytes()
    if not _is_whole(content):
        log.warning("%s is no whole document, and is removed", path)
        path.unlink()
        return None
    sha256 = _sha256(content)
    if (first := _first(ledger, facts, sha256)) != sha256:
        log.error(
            "%s is not the certificate of purchase %d that was stored first: its SHA-256 is %s, and that one's %s. Put the first back, or "
            "remove this file, and the next report asks for it again",
            *(path, facts.purchase, sha256, first),
        )
    return first == sha256


def _store(ledger: Ledger, facts: RetirementFacts, certificate: Certificate, place: Any) -> str | None:
    """Store a certificate, and return the file's name; None where it is not the one that counts."""
    name = f"{facts.purchase}.{certificate.suffix}"
    path, sha256 = place / name, _sha256(certificate.content)
    is_ours, first = False, facts.certificate_sha256
    if first in (None, sha256):
        place.mkdir(parents=True, exist_ok=True)
        is_ours = _write_new(path, certificate.content)
        # As it is there: elsewhere than on a local disk, another call's may have taken its place.
        content = path.read_bytes()
        sha256 = _sha256(content)
        if _is_whole(content) and (first := _first(ledger, facts, sha256)) == sha256:
            return name
    log.warning(
        "The certificate of purchase %d is another one now, SHA-256 %s: the first that was stored counts, %s, and this is not stored",
        *(facts.purchase, sha256, first),
    )
    if is_ours:
        path.unlink(missing_ok=True)
    return None


def _first(ledger: Ledger, facts: RetirementFacts, sha256: str) -> str | None:
    """Return the SHA-256 of the certificate that was stored first: if none was before, it is this."""
    if facts.certificate_sha256 is None:
        (facts,) = ledger.keep_retirements([replace(facts, certificate_sha256=sha256)])
    return facts.certificate_sha256


def _is_whole(content: bytes) -> bool:
    from airflow_provider_carbonmark.api.models import Certificate

    return bool(Certificate(content=content).content_type)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_new(path: Any, content: bytes) -> bool:
    """Write a file that is not there, and tell whether that is so; on a local disk it is whole or not there."""
    if on_local_disk(path) is None:
        if path.exists():
            return False
        with path.open("wb") as stream:
            stream.write(content)
        return True
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as stream:
            stream.write(content)
            stream.flush()
            # The ledger, which is told of it next, outlives a power cut.
            os.fsync(stream.fileno())
        return _put(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _put(unfinished: Path, path: Path) -> bool:
    try:
        # Unlike a file that is moved, a link never takes the place of another.
        path.hardlink_to(unfinished)
    except FileExistsError:
        return False
    except OSError:
        # A mounted file system without links.
        if path.exists():
            return False
        unfinished.replace(path)
    return True
