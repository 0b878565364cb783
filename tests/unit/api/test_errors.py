from __future__ import annotations

import pickle

import pytest

from airflow_provider_carbonmark.api import errors

EXAMPLES = [
    errors.CarbonmarkError("Something went wrong.", status=418, code="TEAPOT", request_id="req_1"),
    errors.InvalidInputError("quantity_tonnes", "is not above zero", value=-1, remedy="Give more"),
    errors.TransportError("Refused."),
    errors.UnreadableAnswerError("HTML.", status=200, request_id="req_1"),
    errors.AccessDeniedError("No.", status=401, code="UNAUTHORIZED", request_id="req_1"),
    errors.NotFoundError("No.", status=404),
    errors.RateLimitedError("No.", status=429, retry_after=1.5),
    errors.RequestRefusedError("No.", status=422, code="INVALID"),
    errors.ServiceError("No.", status=503, retry_after=0.0),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_all_it_carries(error):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert (type(copy), str(copy), vars(copy), copy.args) == (
            *(type(error), str(error)),
            *(vars(error), error.args),
        )


def test_the_examples_cover_the_whole_tree():
    def tree(kind):
        return {kind}.union(*map(tree, kind.__subclasses__()))

    assert {type(error) for error in EXAMPLES} | {errors.StatusError} == tree(errors.CarbonmarkError)


def test_a_refused_input_names_field_value_and_remedy():
    error = errors.InvalidInputError("quantity_tonnes", "is not above zero", value=-1, remedy="Give more")
    assert str(error) == "quantity_tonnes is not above zero (got -1). Give more."
    assert isinstance(error, ValueError)
    assert "got" not in str(errors.InvalidInputError("api_key", "is odd", remedy="Copy it again"))


def test_a_text_is_shortened_to_the_length_and_not_below():
    assert errors.shorten("x" * 10, 10) == "x" * 10
    assert errors.shorten("x" * 11, 10) == "x" * 9 + "…"
