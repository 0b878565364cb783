"""The verdict: only a proven retirement of what was asked is one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from airflow_provider_carbonmark.api.models import Payment
from airflow_provider_carbonmark.api.retirement import (
    Outcome,
    RetirementRequest,
    describes,
    is_not_paid,
    judge,
)

HASH = "0x" + "ab" * 32
CERTIFICATE = f"https://app.carbonmark.com/retirements/id/137-{HASH}-0"
TOLD = {
    "beneficiary_name": "Acme GmbH",
    "quantity_tonnes": Decimal("12.345"),
    "asset_price_source_id": "listing-137-0x79a4",
    "retirement_message": "For October",
}
ASKED = RetirementRequest(**TOLD)
DONE = {
    "payment_status": "PAID",
    "retirement_status": "COMPLETED",
    "view_retirement_url": CERTIFICATE,
    **TOLD,
}
PLACEHOLDER = DONE | {
    "beneficiary_name": "Developer Tester",
    "quantity_tonnes": Decimal("0.017"),
    "retirement_message": "TEST MODE - do not pass on",
}
STATUSES = pytest.mark.parametrize("name", ["payment_status", "retirement_status"])


def verdict(*, asked=ASKED, test_mode=False, is_ours=False, without=(), answer=DONE, words=None, **changes):
    """Judge an answer, with changes; its reason is a sentence that floods no log."""
    answer = {name: value for name, value in (answer | changes).items() if name not in without}
    given = Payment.model_validate(answer)
    got = judge(given, asked, test_mode=test_mode, is_ours=is_ours, **(words or {}))
    assert got.reason[0].isupper()
    assert got.reason.endswith(".")
    assert len(got.reason) < 500
    return got


def outcome(**changes):
    return verdict(**changes).outcome


def test_a_proven_retirement_of_what_was_asked_is_one():
    assert outcome() is Outcome.RETIRED
    assert CERTIFICATE in verdict().reason


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (Outcome.RETIRED, ["COMPLETED", "completed", " complet-ed ", "RETIRED", "SUCCESS", "SUCCEEDED"]),
        (Outcome.RETIRED, ["Successful", "success_ful"]),
        (Outcome.WAITING, ["SUBMITTED", "COMMITTED", "PENDING", "PAID", "完了", "?", "UNSUCCESSFUL"]),
        (Outcome.WAITING, ["INCOMPLETED", "SUCCESS_PENDING", "successfully refused", "SUCCESSFULLY"]),
        (Outcome.WAITING, ["SUCCESS-FAILED", "COMPLETED_WITH_ERRORS"]),
        (Outcome.FAILED, ["FAILED", "failed", "CANCELLED", "Canceled", "EXPIRED", "REFUNDED", "RE-JECTED"]),
    ],
    ids=str,
)
def test_whole_words_on_the_retirement_decide_in_any_spelling_and_the_reason_shows_them(ends, words):
    for word in words:
        got = verdict(retirement_status=word)
        assert (word, got.outcome) == (word, ends)
        assert repr(word) in got.reason


def test_a_long_word_is_shortened():
    assert outcome(retirement_status="x" * 100_000) is Outcome.WAITING


@pytest.mark.parametrize("word", ["COMPLETED", "RETIRED", "SUCCESS", "SUCCEEDED", "SUCCESSFUL"])
def test_a_success_word_on_the_payment_alone_never_finishes(word):
    assert outcome(payment_status=word, without=["retirement_status"]) is Outcome.WAITING
    assert outcome(payment_status=word, retirement_status="COMMITTED") is Outcome.WAITING


@pytest.mark.parametrize("word", ["FAILED", "Canceled", "EXPIRED", "REFUNDED", "rejected"])
def test_a_failure_word_on_the_payment_beats_everything(word):
    got = verdict(payment_status=word)
    assert got.outcome is Outcome.FAILED
    assert f"The status of the payment is {word!r}" in got.reason
    assert outcome(payment_status=word, without=["retirement_status"]) is Outcome.PAYMENT_FAILED


def test_a_failure_is_told_in_the_words_of_the_service():
    got = verdict(retirement_status="FAILED", failure="Listing sold out")
    assert got.reason == "The status of the retirement is 'FAILED', with the message 'Listing sold out'."


@STATUSES
def test_that_another_payment_failed_says_nothing_of_ours(name):
    got = verdict(**{name: "FAILED", "quantity_tonnes": 2})
    assert got.outcome is Outcome.NOT_AS_ASKED
    assert "FAILED" in got.reason
    assert "quantity in tonnes is 2 instead of 12.345" in got.reason


@STATUSES
@pytest.mark.parametrize("told", [{"without": ["quantity_tonnes"]}, {"answer": PLACEHOLDER}], ids=str)
def test_a_failed_payment_that_does_not_say_what_it_was_for_is_ours_only_if_that_is_known(name, told):
    got = verdict(**{name: "FAILED"}, **told)
    assert got.outcome is Outcome.UNTOLD
    assert "check the payment id" in got.reason
    assert outcome(**{name: "FAILED"}, **told, is_ours=True) is Outcome.FAILED
    assert outcome(**{name: "FAILED"}, **told, asked=None) is Outcome.FAILED


def test_custom_words_replace_the_usual_ones():
    words = {"success_states": ["Burned"], "failed_states": ["Lost"]}
    assert outcome(words=words, retirement_status="BURNED", payment_status="FAILED") is Outcome.RETIRED
    assert outcome(words=words, retirement_status="COMPLETED") is Outcome.WAITING
    assert outcome(words=words, retirement_status="lost") is Outcome.FAILED


@pytest.mark.parametrize("url", [None, "", "pending", "javascript:alert(1)"])
@pytest.mark.parametrize("tx", [None, "", "pending", "0x1234", "0x" + "zz" * 32, HASH + "ab", 5])
def test_success_without_proof_waits(url, tx):
    got = verdict(
        view_retirement_url=url, transaction_hash=tx, on_chain_explorer_url="https://polygonscan.com/"
    )
    assert got.outcome is Outcome.WAITING
    assert "proves" in got.reason


@pytest.mark.parametrize(
    "proof",
    [
        *({"transaction_hash": each} for each in (HASH, HASH.upper().replace("0X", "0x"))),
        {"on_chain_explorer_url": f"https://polygonscan.com/tx/{HASH}"},
        {"certificate_url": CERTIFICATE},
    ],
    ids=str,
)
def test_a_hash_or_a_certificate_is_a_proof(proof):
    assert outcome(without=["view_retirement_url"], **proof) is Outcome.RETIRED


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(("quantity_tonnes", each) for each in ("12.346", Decimal("12.3450001"), 0, -12, "0.017", 1234)),
        *(
            ("beneficiary_name", each)
            for each in ("AcmeGmbH", "Acme", "Acme GmbH & Co", "Somebody Else Ltd.")
        ),
        ("asset_price_source_id", "listing-137-0xother"),
        ("retirement_message", "For September"),
    ],
)
def test_something_else_is_not_what_was_asked_in_test_mode_either(name, told):
    for test_mode in (False, True):
        got = verdict(**{name: told}, test_mode=test_mode)
        assert got.outcome is Outcome.NOT_AS_ASKED
        assert str(told) in got.reason
        assert str(TOLD[name]) in got.reason
    # Also where something is missing.
    assert outcome(**{name: told}, without={"beneficiary_name"} - {name}) is Outcome.NOT_AS_ASKED


@pytest.mark.parametrize(
    "told",
    [
        *({"quantity_tonnes": each} for each in ("12.345", "12.3450", Decimal("12.34500"))),
        *({"asset_price_source_id": each} for each in (None, "listing-137-0x79A4")),
    ],
    ids=str,
)
def test_quantity_and_listing_count_in_any_spelling_and_the_listing_may_stay_untold(told):
    assert outcome(**told) is Outcome.RETIRED


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("Acme GmbH", "  Acme \n GmbH "),
        *(("Müller", "Mu\u0308ller"), ("Mu\u0308ller", "Müller"), ("Acme\u00a0GmbH", "Acme GmbH")),
        *(
            ("Acme GmbH", "ACME GMBH"),
            ("MÜLLER AG", "mu\u0308ller ag"),
            ("Weiß AG", "WEISS AG"),
            ("ΟΔΟΣ", "οδος"),
        ),
        # Folded, the first one comes apart into a letter and two accents, the second one into a letter with one, and one.
        ("\u0390", "\u03aa\u0301"),
    ],
)
def test_a_beneficiary_is_compared_by_what_people_read(asked, answered):
    asked = replace(ASKED, beneficiary_name=asked)
    assert outcome(asked=asked, beneficiary_name=answered) is Outcome.RETIRED


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (["beneficiary_name"], "beneficiary name yet"),
        (["quantity_tonnes"], "quantity in tonnes yet"),
        (["beneficiary_name", "quantity_tonnes"], "beneficiary name and quantity in tonnes yet"),
    ],
)
def test_a_retirement_that_does_not_tell_what_it_is_waits_and_says_what_is_missing(missing, words):
    got = verdict(without=missing)
    assert got.outcome is Outcome.WAITING
    assert words in got.reason


def test_nothing_is_compared_where_nothing_particular_was_asked():
    for asked in (RetirementRequest(None, None, None, None), None):
        assert outcome(asked=asked, without=TOLD) is Outcome.RETIRED


@pytest.mark.parametrize("asked", [ASKED, None])
def test_a_placeholder_is_the_end_of_a_test_and_never_counts_in_production(asked):
    for test_mode, ends in ((False, Outcome.NOT_AS_ASKED), (True, Outcome.RETIRED)):
        got = verdict(answer=PLACEHOLDER, asked=asked, test_mode=test_mode)
        assert got.outcome is ends
        assert "placeholder that test mode shows for every order; nothing was retired" in got.reason


def test_a_placeholder_without_proof_or_success_still_waits():
    assert outcome(answer=PLACEHOLDER, retirement_status="COMMITTED", test_mode=True) is Outcome.WAITING
    assert outcome(answer=PLACEHOLDER, without=["view_retirement_url"], test_mode=True) is Outcome.WAITING


@pytest.mark.parametrize(
    "sign",
    [
        {"retirement_message": "This is a Test Mode retirement."},
        {"note": "TEST MODE"},
        {"certificate": {"lines": ["Congratulations", {"text": "test-mode: do not share"}]}},
        {"retirement": {"status": "COMPLETED", "text": "TEST_MODE"}},
        {"metadata": {"beneficiary_name": "Developer  Tester"}},
    ],
    ids=str,
)
def test_a_sign_of_test_mode_anywhere_makes_it_a_placeholder(sign):
    got = verdict(**sign)
    assert got.outcome is Outcome.NOT_AS_ASKED
    assert "placeholder" in got.reason


@pytest.mark.parametrize(
    "note", ["Latest Mode Ltd", "Contest Mode AG", "Test Modern Art", "tested, modelled"]
)
def test_words_that_only_contain_the_letters_are_no_sign_of_test_mode(note):
    assert outcome(note=note) is Outcome.RETIRED


@pytest.mark.parametrize("name", ["Developer Tester", "Test Mode Records Ltd"])
def test_our_own_words_are_no_sign_of_test_mode(name):
    ours = {"beneficiary_name": name, "retirement_message": "test mode on"}
    assert outcome(asked=replace(ASKED, **ours), **ours) is Outcome.RETIRED


PAID_ONLY = {"payment_status": "PAID"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (DONE, True),
        (DONE | {"retirement_status": "SUBMITTED", "view_retirement_url": None}, True),
        (DONE | {"asset_price_source_id": None}, True),
        (DONE | {"beneficiary_name": "Somebody Else"}, False),
        (DONE | {"quantity_tonnes": Decimal("12.346")}, False),
        (DONE | {"asset_price_source_id": "listing-137-0xother"}, False),
        (PAID_ONLY | {"quantity_tonnes": Decimal("1")}, False),
        (PAID_ONLY | {"quantity_tonnes": Decimal("12.345")}, None),
        (PAID_ONLY | {"beneficiary_name": "Acme GmbH"}, None),
        *((PAID_ONLY, None), (PLACEHOLDER, None)),
    ],
)
def test_a_payment_describes_what_was_asked_or_something_else_or_too_little(answer, told):
    assert describes(Payment.model_validate(answer), ASKED) is told


@pytest.mark.parametrize(
    ("not_paid", "payment", "retirement"),
    [
        *((True, word, None) for word in ("UNPAID", "requires_payment_method", "FAILED", "Canceled")),
        *((False, word, None) for word in ("PAID", "PENDING", "SUCCEEDED", None)),
        *((False, word, "FAILED") for word in ("PAID", "REFUNDED")),
    ],
)
def test_a_payment_that_did_not_go_through_is_not_paid(payment, retirement, not_paid):
    answer = {"payment_status": payment, "retirement_status": retirement}
    assert is_not_paid(Payment.model_validate(answer)) is not_paid
