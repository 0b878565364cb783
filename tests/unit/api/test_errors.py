from __future__ import annotations

import pickle

import pytest

from airflow_provider_carbonmark.api.errors import (
    AccessDeniedError,
    CarbonmarkError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    RequestRefusedError,
    ServiceError,
    StatusError,
    TransportError,
    UnreadableAnswerError,
    redact,
    shorten,
    status_error_class,
)

EXAMPLES = [
    CarbonmarkError("Something went wrong.", status=418, code="TEAPOT", request_id="req_1"),
    InvalidInputError("quantity_tonnes", "is not above zero", value=-1, remedy="Give more"),
    TransportError("Refused."),
    UnreadableAnswerError("HTML.", status=200, request_id="req_1"),
    AccessDeniedError("No.", status=401, code="UNAUTHORIZED", request_id="req_1"),
    NotFoundError("No.", status=404),
    RateLimitedError("No.", status=429, retry_after=1.5),
    RequestRefusedError("No.", status=422, code="INVALID"),
    ServiceError("No.", status=503, retry_after=0.0),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_all_it_carries(error, protocol):
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert copy.args == error.args


def test_the_examples_cover_the_whole_tree():
    def tree(kind):
        return {kind}.union(*map(tree, kind.__subclasses__()))

    assert {type(error) for error in EXAMPLES} | {StatusError} == tree(CarbonmarkError)


def test_the_text_shows_status_code_and_request_id():
    assert str(EXAMPLES[0]) == "Something went wrong. [HTTP 418, code TEAPOT, request id req_1]"


def test_the_text_shows_nothing_that_is_unknown():
    assert str(TransportError("Refused.")) == "Refused."


def test_a_refused_input_names_field_value_and_remedy():
    error = InvalidInputError("quantity_tonnes", "is not above zero", value=-1, remedy="Give more")
    assert str(error) == "quantity_tonnes is not above zero (got -1). Give more."
    assert isinstance(error, ValueError)


def test_a_long_value_is_shown_shortened():
    error = InvalidInputError("beneficiary_name", "is too long", value="x" * 10_000, remedy="Give less")
    assert len(str(error)) < 150


def test_a_value_that_is_none_is_shown():
    assert "(got None)" in str(InvalidInputError("url", "is not text", value=None, remedy="Give text"))


def test_a_value_that_is_left_out_is_not_shown():
    assert "got" not in str(InvalidInputError("api_key", "is odd", remedy="Copy it again"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRefusedError),
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, NotFoundError),
        (408, RequestRefusedError),
        (409, RequestRefusedError),
        (422, RequestRefusedError),
        (429, RateLimitedError),
        (500, ServiceError),
        (503, ServiceError),
        (599, ServiceError),
        (999, ServiceError),
    ],
)
def test_a_status_has_its_class(status, kind):
    assert status_error_class(status) is kind


def test_a_secret_is_cut_out_wherever_it_stands():
    assert redact("key=cm_api_1, again cm_api_1", "cm_api_1") == "key=***, again ***"


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_a_text_stays_as_it_is(secret):
    assert redact("text", secret) == "text"


def test_a_text_is_shortened_to_the_length_and_not_below():
    assert shorten("x" * 10, 10) == "x" * 10
    assert shorten("x" * 11, 10) == "x" * 9 + "…"
