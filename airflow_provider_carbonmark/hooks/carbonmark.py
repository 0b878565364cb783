"""An Airflow connection, and the Carbonmark client made from it."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException, BaseHook

from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
    CarbonmarkError,
    InvalidInputError,
    NotFoundError,
    UnreadableAnswerError,
)
from airflow_provider_carbonmark.api.retries import RetryPolicy, is_passing
from airflow_provider_carbonmark.hooks import connection_form

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow.sdk import Connection

    from airflow_provider_carbonmark.api.client import CarbonmarkClient, ClientSettings
    from airflow_provider_carbonmark.api.models import (
        Certificate,
        Checkout,
        Listing,
        Payment,
        Project,
        ProvenanceRecord,
        Quote,
        Retirement,
    )

#: seen: keys that start so retire nothing (carbonmark-api, section 4).
TEST_KEY_PREFIX = "cm_api_sandbox"
CARBONMARK_DOMAIN = "carbonmark.com"

#: Well formed, and no payment has it: a right key gets 404 for it, a wrong one 401 or 403.
IMPOSSIBLE_PAYMENT_ID = "airflow-connection-test"


@dataclass(frozen=True)
class CarbonmarkConnection:
    """
    What an Airflow connection of type ``carbonmark`` says, read once. Empty fields mean the default.

    :param test_mode: whether what comes from this connection retires nothing.
    """

    settings: ClientSettings
    test_mode: bool

    @classmethod
    def of(cls, connection: Connection) -> CarbonmarkConnection:
        """
        Read an Airflow connection.

        :raises InvalidInputError: when a field can't be used; names the connection, the field, the value and the remedy.
        """
        # Imported late here and below: the client and its models are half of what a DAG file would load for an operator.
        from airflow_provider_carbonmark.api.client import ClientSettings, parse_base_url, parse_key

        extra = connection.extra_dejson
        field = f"connection {connection.conn_id!r}, {{}}".format
        if not isinstance(extra, dict):
            raise InvalidInputError(
                field("extra"), "is not a JSON object", remedy='Give for example {"timeout": 30}'
            )
        market_url = _or_default(extra.get("market_url"), connection_form.DEFAULT_MARKET_URL)
        settings = ClientSettings(
            timeout=_timeout(extra.get("timeout"), field("extra timeout")),
            checkout_url=parse_base_url(_base_url(connection), field("host")),
            market_url=parse_base_url(market_url, field("extra market_url")),
            api_key=parse_key(connection.password or "", field("password")),
        )
        environment = _or_default(extra.get("environment"), None)
        return cls(settings, _test_mode(environment, settings, field("extra environment")))


def _or_default(value: Any, default: Any) -> Any:
    """Take an empty text for unset."""
    text = value.strip() if isinstance(value, str) else value
    return default if text in (None, "") else text


def _base_url(connection: Connection) -> str:
    """Return the base URL that host and port name; a host without a scheme is reached over https."""
    host = (connection.host or "").strip()
    if not host:
        return connection_form.DEFAULT_CHECKOUT_URL
    url = host if "://" in host else f"https://{host}"
    try:
        parts = urlsplit(url)
        complete = not connection.port or parts.port is not None
    except ValueError:
        return url  # refused by what reads it next, with a remedy
    return url if complete else urlunsplit(parts._replace(netloc=f"{parts.netloc}:{connection.port}"))


def _timeout(value: Any, field: str) -> float:
    try:
        seconds = float(_or_default(value, connection_form.DEFAULT_TIMEOUT))
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise InvalidInputError(
            field, "is not a number of seconds", value=value, remedy="Give more than 0 and at most 3600"
        )
    return seconds


def _test_mode(environment: Any, settings: ClientSettings, field: str) -> bool:
    if environment is None:
        if settings.api_key and settings.api_key.get_secret_value().startswith(TEST_KEY_PREFIX):
            return True
        host = urlsplit(settings.checkout_url).hostname or ""
        if host == CARBONMARK_DOMAIN or host.endswith(f".{CARBONMARK_DOMAIN}"):
            return False
        # Taken for a rehearsal, what a gateway sells would be paid and not counted; taken for real, a rehearsal would be counted.
        raise InvalidInputError(
            field,
            "must be set, because a host outside carbonmark.com may be either",
            value=settings.checkout_url,
            remedy="Give production for a gateway in front of Carbonmark, where payments are real, or test for a sandbox",
        )
    if environment not in connection_form.ENVIRONMENTS:
        raise InvalidInputError(
            field, "is unknown", value=environment, remedy="Give production or test, or leave it empty"
        )
    return bool(environment == "test")


class CarbonmarkHook(BaseHook):
    """
    Talk to Carbonmark as an Airflow connection says.

    Every method raises a :class:`~airflow_provider_carbonmark.api.errors.CarbonmarkError` when it can't do its work:
    ``InvalidInputError`` before anything was sent, ``TransportError``, ``StatusError`` or ``UnreadableAnswerError`` after.
    Failures that may pass are tried again for up to 90 seconds.

    :param carbonmark_conn_id: the Airflow connection, of type ``carbonmark``.
    """

    conn_name_attr = "carbonmark_conn_id"
    default_conn_name = "carbonmark_default"
    conn_type = connection_form.CONN_TYPE
    hook_name = connection_form.HOOK_NAME

    def __init__(self, carbonmark_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.carbonmark_conn_id = carbonmark_conn_id

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """
        Return an Airflow connection.

        :raises AirflowNotFoundException: when there is none, with how to make one. Another try may help: it may be kept where nothing
            could be read right now.
        """
        try:
            return super().get_connection(conn_id)
        except AirflowNotFoundException as missing:
            raise _not_found(conn_id) from missing

    @classmethod
    async def aget_connection(cls, conn_id: str) -> Connection:
        """Return what :meth:`get_connection` returns, without blocking the event loop."""
        try:
            return await super().aget_connection(conn_id)
        except AirflowNotFoundException as missing:
            raise _not_found(conn_id) from missing

    @cached_property
    def connection(self) -> CarbonmarkConnection:
        """The connection, read once per hook."""
        return CarbonmarkConnection.of(self.get_connection(self.carbonmark_conn_id))

    @property
    def test_mode(self) -> bool:
        """Whether what comes from this connection retires nothing."""
        return self.connection.test_mode

    def get_conn(self, retries: RetryPolicy | None = None) -> CarbonmarkClient:
        """
        Return a client of the caller's own, to be closed by the caller (it is a context manager).

        :param retries: how failed requests are tried again; the client's default when not given.
        """
        from airflow_provider_carbonmark.api.client import CarbonmarkClient

        return CarbonmarkClient(self.connection.settings, retries=retries or RetryPolicy())

    @cached_property
    def _client(self) -> CarbonmarkClient:
        """The client of this hook's own calls. Making one takes ten times as long as a call, so it is kept as long as the hook."""
        client = self.get_conn()
        weakref.finalize(self, client.close)
        return client

    def list_prices(
        self, project_ids: Sequence[str] | None = None, min_supply: Decimal | None = None
    ) -> list[Listing]:
        """
        Return what the market offers (market API ``GET /prices``, documented).

        :param project_ids: only these projects, such as ``VCS-191``.
        :param min_supply: only price sources that hold at least so many tonnes; liquid or not (seen).
        """
        return self._client.list_prices(project_ids=project_ids, min_supply=min_supply)

    def list_projects(self, keys: Collection[str]) -> list[Project]:
        """
        Return what the market says of projects (market API ``GET /carbonProjects``, documented).

        :param keys: of the projects, such as ``VCS-191``. What the market doesn't know is missing in the answer.
        """
        return self._client.list_projects(keys)

    def create_quote(self, *, asset_price_source_id: str, quantity_tonnes: Decimal | str | int) -> Quote:
        """
        Ask what a quantity of a listing costs (``POST /quotes``, documented). Buys and reserves nothing.

        :param asset_price_source_id: the listing, ``Listing.source_id``.
        :param quantity_tonnes: tonnes, in steps of 0.001.
        """
        return self._client.create_quote(
            asset_price_source_id=asset_price_source_id, quantity_tonnes=quantity_tonnes
        )

    def create_checkout(
        self,
        *,
        asset_price_source_id: str,
        quantity_tonnes: Decimal | str | int,
        metadata: Mapping[str, Any],
        success_url: str,
        cancel_url: str,
        idempotency_key: str | None = None,
    ) -> Checkout:
        """
        Make a hosted payment page (``POST /checkout``, documented). Nothing is bought until somebody pays there.

        :param asset_price_source_id: the listing, ``Listing.source_id``.
        :param quantity_tonnes: tonnes, in steps of 0.001.
        :param metadata: ``beneficiary_name`` (at most 255 characters) and ``retirement_message`` (at most 500), which end up in the public
            record (documented); anything else is passed on.
        :param success_url: where the buyer lands after paying; Carbonmark appends ``/<payment id>`` (documented).
        :param cancel_url: where the buyer lands after leaving the page unpaid.
        :param idempotency_key: the same key asks for the same page again; a new one when not given. Whether Carbonmark
            honours it isn't documented.
        """
        return self._client.create_checkout(
            asset_price_source_id=asset_price_source_id,
            quantity_tonnes=quantity_tonnes,
            metadata=metadata,
            success_url=success_url,
            cancel_url=cancel_url,
            idempotency_key=idempotency_key,
        )

    def get_payment(self, payment_id: str) -> Payment:
        """
        Return a payment and how far its retirement got (``GET /payments/{id}``, documented; its fields are assumed).

        :param payment_id: what Carbonmark appended to the success URL.
        """
        return self._client.get_payment(payment_id)

    def list_retirements(self, transaction_hash: str) -> list[Retirement]:
        """
        Return the retirements of a transaction, whoever's they are (market API ``GET /retirements?hash=``, documented; its fields seen).

        :param transaction_hash: ``0x`` and 64 hexadecimal digits.
        """
        return self._client.list_retirements(transaction_hash)

    def get_retirement(self, retirement_id: str) -> Retirement:
        """
        Return a retirement (market API ``GET /retirements/{id}``, documented; its fields seen).

        :param retirement_id: ``{chainId}-{transaction hash}-{index}``, the last part of the address of the certificate's page.
        """
        return self._client.get_retirement(retirement_id)

    def get_provenance(self, retirement_id: str) -> list[ProvenanceRecord]:
        """
        Return where a retirement's credits come from (market API ``GET /retirements/{id}/provenance``, documented; its fields seen).

        Some have no such records, which is a ``NotFoundError``.

        :param retirement_id: as for :meth:`get_retirement`.
        """
        return self._client.get_provenance(retirement_id)

    def get_certificate(self, retirement_id: str) -> Certificate:
        """
        Return a retirement's certificate (market API ``GET /retirements/{id}/certificate``, documented; assumed: PDF, PNG or JPEG).

        It takes a while until there is one, and is a ``NotFoundError`` until then (documented).

        :param retirement_id: as for :meth:`get_retirement`.
        """
        return self._client.get_certificate(retirement_id)

    async def aget_payment(self, payment_id: str) -> Payment:
        """Return what :meth:`get_payment` returns, without blocking the event loop."""
        from airflow_provider_carbonmark.api.client import AsyncCarbonmarkClient

        connection = CarbonmarkConnection.of(await self.aget_connection(self.carbonmark_conn_id))
        async with AsyncCarbonmarkClient(connection.settings) as client:
            return await client.get_payment(payment_id)

    def test_connection(self) -> tuple[bool, str]:
        """
        Tell a wrong key from a wrong host from a working service, without buying anything.

        The Checkout Service is asked for a payment that can't exist, the market API for its prices.
        """
        try:
            with self.get_conn(RetryPolicy(attempts=1)) as client:
                checkout = _check_checkout_service(client, self.connection.settings)
                offered = _check_market_api(client, self.connection.settings)
        except CarbonmarkError as error:
            return False, str(error)
        mode = "test mode: nothing is retired" if self.test_mode else "production"
        return True, f"{checkout} The market API offers {offered} price sources. Environment: {mode}."


def _not_found(conn_id: str) -> AirflowNotFoundException:
    return AirflowNotFoundException(
        f"The connection {conn_id!r} isn't defined. Add it under Admin, Connections with the type Carbonmark and your API key as its password, by "
        f"`airflow connections add {conn_id} --conn-type carbonmark --conn-password cm_api_…`, or as the environment variable "
        f"AIRFLOW_CONN_{conn_id.upper()}. To try things out without buying any, `airflow carbonmark sandbox` prints one"
    )


def _check_checkout_service(client: CarbonmarkClient, settings: ClientSettings) -> str:
    stranger = f"Something answers at {settings.checkout_url}, but not as the Checkout Service does: check the connection's host."
    try:
        client.get_payment(IMPOSSIBLE_PAYMENT_ID)
    except AccessDeniedError as error:
        raise CarbonmarkError(
            f"The Checkout Service at {settings.checkout_url} refuses the API key: check the connection's password. {error}"
        ) from error
    except NotFoundError as error:
        # Any web server answers 404; Carbonmark's errors are JSON and name themselves (seen).
        if error.code is None:
            raise CarbonmarkError(stranger) from error
        return f"The Checkout Service at {settings.checkout_url} accepts the API key."
    except UnreadableAnswerError as error:
        raise CarbonmarkError(f"{stranger} {error}") from error
    except CarbonmarkError as error:
        raise CarbonmarkError(
            f"The Checkout Service at {settings.checkout_url} can't be used: {error}"
        ) from error
    raise CarbonmarkError(
        f"{settings.checkout_url} knows a payment {IMPOSSIBLE_PAYMENT_ID!r}, which can't be: check the connection's host."
    )


def _check_market_api(client: CarbonmarkClient, settings: ClientSettings) -> int:
    try:
        return len(client.list_prices())
    except CarbonmarkError as error:
        raise CarbonmarkError(
            f"The Checkout Service answers, but the market API at {settings.market_url} does not: check market_url in the "
            f"connection's extra. {error}"
        ) from error


@contextmanager
def failing_without_retry() -> Iterator[None]:
    """Turn an error that another try can't mend into Airflow's failure without a retry; the rest may be tried again."""
    try:
        yield
    except CarbonmarkError as error:
        if is_passing(error):
            raise
        raise AirflowFailException(str(error)) from error
