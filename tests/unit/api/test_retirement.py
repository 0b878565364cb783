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
ASKED = RetirementRequest(
    beneficiary_name="Acme GmbH",
    quantity_tonnes=Decimal("12.345"),
    asset_price_source_id="listing-137-0x79a4",
    retirement_message="For October",
)
DONE = {
    "payment_status": "PAID",
    "retirement_status": "COMPLETED",
    "view_retirement_url": CERTIFICATE,
    "quantity_tonnes": Decimal("12.345"),
    "beneficiary_name": "Acme GmbH",
    "asset_price_source_id": "listing-137-0x79a4",
    "retirement_message": "For October",
}
PLACEHOLDER = DONE | {
    "beneficiary_name": "Developer Tester",
    "quantity_tonnes": Decimal("0.017"),
    "retirement_message": "TEST MODE - do not pass on",
}


def verdict(*, asked=ASKED, test_mode=False, is_ours=False, without=(), answer=DONE, **changes):
    answer = {name: value for name, value in (answer | changes).items() if name not in without}
    terms = {name: changes.pop(name) for name in ("success_states", "failed_states") if name in changes}
    for name in terms:
        answer.pop(name)
    return judge(Payment.model_validate(answer), asked, test_mode=test_mode, is_ours=is_ours, **terms)


def outcome(**changes):
    return verdict(**changes).outcome


def test_a_proven_retirement_of_what_was_asked_is_one():
    assert verdict() == verdict()
    assert outcome() is Outcome.RETIRED
    assert CERTIFICATE in verdict().reason


@pytest.mark.parametrize(
    "word",
    [
        "COMPLETED",
        "completed",
        "Completed",
        " complet-ed ",
        "RETIRED",
        "SUCCESS",
        "SUCCEEDED",
        "Successful",
        "success_ful",
    ],
)
def test_a_success_word_counts_in_any_spelling(word):
    assert outcome(retirement_status=word) is Outcome.RETIRED


@pytest.mark.parametrize(
    "word",
    [
        "SUBMITTED",
        "COMMITTED",
        "PENDING",
        "UNSUCCESSFUL",
        "INCOMPLETED",
        "完了",
        "?",
        "PAID",
        "SUCCESS_PENDING",
        "successfully refused",
        "SUCCESSFULLY",
        "SUCCESS-FAILED",
        "COMPLETED_WITH_ERRORS",
    ],
)
def test_any_other_word_waits_and_the_reason_shows_it(word):
    got = verdict(retirement_status=word)
    assert got.outcome is Outcome.WAITING
    assert repr(word) in got.reason


@pytest.mark.parametrize("word", ["COMPLETED", "RETIRED", "SUCCESS", "SUCCEEDED", "SUCCESSFUL"])
def test_a_success_word_on_the_payment_alone_never_finishes(word):
    assert outcome(payment_status=word, without=["retirement_status"]) is Outcome.WAITING
    assert outcome(payment_status=word, retirement_status="COMMITTED") is Outcome.WAITING


@pytest.mark.parametrize(
    "word", ["FAILED", "failed", "CANCELLED", "Canceled", "EXPIRED", "REFUNDED", "RE-JECTED", "rejected"]
)
@pytest.mark.parametrize("name", ["payment_status", "retirement_status"])
def test_a_failure_word_on_either_status_beats_everything(name, word):
    got = verdict(**{name: word})
    assert got.outcome is Outcome.FAILED
    assert repr(word) in got.reason
    assert name.removesuffix("_status") in got.reason


def test_a_failure_is_told_in_the_words_of_the_service():
    got = verdict(retirement_status="FAILED", failure="Listing sold out")
    assert got.reason == "The status of the retirement is 'FAILED', with the message 'Listing sold out'."


@pytest.mark.parametrize("name", ["payment_status", "retirement_status"])
def test_that_another_payment_failed_says_nothing_of_ours(name):
    got = verdict(**{name: "FAILED", "quantity_tonnes": 2})
    assert got.outcome is Outcome.NOT_AS_ASKED
    assert "FAILED" in got.reason
    assert "quantity in tonnes is 2 instead of 12.345" in got.reason


@pytest.mark.parametrize("name", ["payment_status", "retirement_status"])
@pytest.mark.parametrize("told", [{"without": ["quantity_tonnes"]}, {"answer": PLACEHOLDER}], ids=str)
def test_a_failed_payment_that_does_not_say_what_it_was_for_is_ours_only_if_that_is_known(name, told):
    got = verdict(**{name: "FAILED"}, **told)
    assert got.outcome is Outcome.UNTOLD
    assert "check the payment id" in got.reason
    assert outcome(**{name: "FAILED"}, **told, is_ours=True) is Outcome.FAILED
    assert outcome(**{name: "FAILED"}, **told, asked=None) is Outcome.FAILED


@pytest.mark.parametrize("url", [None, "", "pending", "javascript:alert(1)"])
@pytest.mark.parametrize("tx", [None, "", "pending", "0x1234", "0x" + "zz" * 32, HASH + "ab", 5])
def test_success_without_proof_waits(url, tx):
    got = verdict(view_retirement_url=url, transaction_hash=tx)
    assert got.outcome is Outcome.WAITING
    assert "proves" in got.reason


@pytest.mark.parametrize(
    "proof",
    [
        {"transaction_hash": HASH},
        {"transaction_hash": HASH.upper().replace("0X", "0x")},
        {"on_chain_explorer_url": f"https://polygonscan.com/tx/{HASH}"},
        {"certificate_url": CERTIFICATE},
    ],
)
def test_a_hash_or_a_certificate_is_a_proof(proof):
    assert outcome(without=["view_retirement_url"], **proof) is Outcome.RETIRED


def test_an_explorer_address_without_a_hash_is_no_proof():
    url = "https://polygonscan.com/"
    assert outcome(without=["view_retirement_url"], on_chain_explorer_url=url) is Outcome.WAITING


@pytest.mark.parametrize("quantity", ["12.346", Decimal("12.3450001"), 0, -12, "0.017", 1234])
def test_another_quantity_is_not_what_was_asked(quantity):
    got = verdict(quantity_tonnes=quantity)
    assert got.outcome is Outcome.NOT_AS_ASKED
    assert "12.345" in got.reason
    assert str(quantity) in got.reason


@pytest.mark.parametrize("quantity", ["12.345", "12.3450", Decimal("12.34500")])
def test_the_same_quantity_counts_in_any_spelling(quantity):
    assert outcome(quantity_tonnes=quantity) is Outcome.RETIRED


@pytest.mark.parametrize("name", ["AcmeGmbH", "Acme", "Acme GmbH & Co", "Somebody Else Ltd."])
def test_another_beneficiary_is_not_what_was_asked(name):
    got = verdict(beneficiary_name=name)
    assert got.outcome is Outcome.NOT_AS_ASKED
    assert "Acme GmbH" in got.reason
    assert name in got.reason


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("Acme GmbH", "  Acme \n GmbH "),
        ("Müller", "Mu\u0308ller"),
        ("Mu\u0308ller", "Müller"),
        ("Acme\u00a0GmbH", "Acme GmbH"),
        ("Acme GmbH", "ACME GMBH"),
        ("MÜLLER AG", "mu\u0308ller ag"),
        ("Weiß AG", "WEISS AG"),
        ("ΟΔΟΣ", "οδος"),
        # Folded, the first one comes apart into a letter and two accents, the second one into a letter with one, and one.
        ("\u0390", "\u03aa\u0301"),
    ],
)
def test_a_beneficiary_is_compared_by_what_people_read(asked, answered):
    asked = replace(ASKED, beneficiary_name=asked)
    assert outcome(asked=asked, beneficiary_name=answered) is Outcome.RETIRED


def test_another_listing_is_not_what_was_asked():
    assert outcome(asset_price_source_id="listing-137-0xother") is Outcome.NOT_AS_ASKED


def test_the_listing_may_stay_untold_and_its_case_does_not_matter():
    assert outcome(without=["asset_price_source_id"]) is Outcome.RETIRED
    assert outcome(asset_price_source_id="listing-137-0x79A4") is Outcome.RETIRED


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (["beneficiary_name"], "beneficiary name"),
        (["quantity_tonnes"], "quantity in tonnes"),
        (["beneficiary_name", "quantity_tonnes"], "beneficiary name and quantity in tonnes"),
    ],
)
def test_a_retirement_that_does_not_tell_what_it_is_waits_and_says_what_is_missing(missing, words):
    got = verdict(without=missing)
    assert got.outcome is Outcome.WAITING
    assert words in got.reason


def test_a_difference_counts_before_something_missing():
    assert outcome(without=["beneficiary_name"], quantity_tonnes=1) is Outcome.NOT_AS_ASKED


def test_nothing_is_compared_where_nothing_particular_was_asked():
    nothing = RetirementRequest(None, None, None, None)
    bare = ["beneficiary_name", "quantity_tonnes", "asset_price_source_id"]
    assert outcome(asked=nothing, without=bare) is Outcome.RETIRED
    assert outcome(asked=None, without=bare) is Outcome.RETIRED


@pytest.mark.parametrize("asked", [ASKED, None])
def test_a_placeholder_never_counts_in_production(asked):
    got = verdict(answer=PLACEHOLDER, asked=asked)
    assert got.outcome is Outcome.NOT_AS_ASKED
    assert "placeholder" in got.reason


@pytest.mark.parametrize("asked", [ASKED, None])
def test_a_placeholder_is_the_end_of_a_test_and_the_reason_says_so(asked):
    got = verdict(answer=PLACEHOLDER, asked=asked, test_mode=True)
    assert got.outcome is Outcome.RETIRED
    assert "placeholder" in got.reason
    assert "nothing was retired" in got.reason


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
)
def test_a_sign_of_test_mode_anywhere_makes_it_a_placeholder(sign):
    assert outcome(**sign) is Outcome.NOT_AS_ASKED


@pytest.mark.parametrize(
    "note", ["Latest Mode Ltd", "Contest Mode AG", "Test Modern Art", "tested, modelled"]
)
def test_words_that_only_contain_the_letters_are_no_sign_of_test_mode(note):
    assert outcome(note=note) is Outcome.RETIRED


@pytest.mark.parametrize("name", ["Developer Tester", "Test Mode Records Ltd"])
def test_our_own_words_are_no_sign_of_test_mode(name):
    asked = replace(ASKED, beneficiary_name=name, retirement_message="test mode on")
    assert outcome(asked=asked, beneficiary_name=name, retirement_message="test mode on") is Outcome.RETIRED


def test_somebody_elses_retirement_is_refused_in_test_mode_too():
    assert outcome(beneficiary_name="Somebody Else", test_mode=True) is Outcome.NOT_AS_ASKED


def test_custom_words_replace_the_usual_ones():
    terms = {"success_states": ["Burned"], "failed_states": ["Lost"]}
    assert outcome(retirement_status="BURNED", **terms) is Outcome.RETIRED
    assert outcome(retirement_status="COMPLETED", **terms) is Outcome.WAITING
    assert outcome(retirement_status="lost", **terms) is Outcome.FAILED
    assert outcome(payment_status="FAILED", retirement_status="BURNED", **terms) is Outcome.RETIRED


def test_a_long_status_does_not_flood_the_log():
    assert len(verdict(retirement_status="x" * 100_000).reason) < 500


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"retirement_status": "COMMITTED"},
        {"without": ["retirement_status", "payment_status"]},
        {"payment_status": "FAILED"},
        {"quantity_tonnes": 1},
        {"without": ["quantity_tonnes"]},
        {"without": ["view_retirement_url"]},
        {"answer": PLACEHOLDER},
    ],
)
def test_reasons_are_sentences(changes):
    reason = verdict(**changes).reason
    assert reason[0].isupper()
    assert reason.endswith(".")


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
        (PAID_ONLY, None),
        (PLACEHOLDER, None),
    ],
)
def test_a_payment_describes_what_was_asked_or_something_else_or_too_little(answer, told):
    assert describes(Payment.model_validate(answer), ASKED) is told


@pytest.mark.parametrize(
    ("payment", "retirement", "not_paid"),
    [
        ("UNPAID", None, True),
        ("requires_payment_method", None, True),
        ("FAILED", None, True),
        ("Canceled", None, True),
        ("PAID", None, False),
        ("PENDING", None, False),
        ("SUCCEEDED", None, False),
        (None, None, False),
        ("PAID", "FAILED", False),
        ("REFUNDED", "FAILED", False),
    ],
)
def test_a_payment_that_did_not_go_through_is_not_paid(payment, retirement, not_paid):
    answer = {"payment_status": payment, "retirement_status": retirement}
    assert is_not_paid(Payment.model_validate(answer)) is not_paid
