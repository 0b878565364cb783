"""Who gets to see what: nobody without a session, and nothing of DAGs that somebody may not read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import httpx
import jwt
import pytest
from sqlalchemy import text

from airflow_provider_carbonmark.ledger.names import State
from tests.integration.web.readers.parts import PAGE, know_dags, links, words
from tests.integration.web.serving import title
from tests.unit.ledger.rows import planned_by

QUERIES = ["", "?year=2026", "?month=2026-10", "?test=1", "?month=nonsense", "?part=2&month=2026-10"]


def test_without_a_session_there_is_nothing_but_a_way_to_sign_in(fill, stranger):
    fill(planned_by("offset", "ml-training"))
    for query in QUERIES:
        page = stranger.get(query)
        assert (page.status_code, title(page)) == (401, "Please sign in"), query
        assert page.headers["www-authenticate"] == "Bearer"
        assert page.headers["cache-control"] == "no-store"
        assert "ml-training" not in page.text
        (sign_in,) = links(page.text)
        assert sign_in.startswith("../api/v2/auth/login?next=http")


def test_the_way_to_sign_in_leads_to_airflow_s_own_and_back(fill, stranger):
    fill(planned_by("offset"))
    (sign_in,) = links(stranger.get().text)
    sent_on = stranger.get(path=f"{PAGE}{sign_in}")
    assert sent_on.status_code == 307
    where, _, back = unquote(sent_on.headers["location"]).partition("?next=")
    assert (where, back) == ("/auth/login", f"{stranger.url}{PAGE}")


def test_what_is_no_session_of_this_airflow_is_none(fill, stranger, reader):
    fill(planned_by("offset", "ml-training"))
    claims = jwt.decode(reader().token, options={"verify_signature": False})
    somebody_else = "somebody else's secret, as long as the real one, but not the real one"
    for token in (
        *("x", "x.y.z", "null", "-", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGwifQ."),
        jwt.encode(claims, somebody_else, "HS512"),
    ):
        for headers in (
            {"Cookie": f"_token={token}"},
            {"Authorization": f"Bearer {token}"},
            {"Authorization": f"Basic {token}"},
        ):
            page = stranger.get(headers=headers)
            assert page.status_code == 401, headers
            assert "ml-training" not in page.text


def test_a_session_that_has_ended_is_none(fill, reader, time_machine):
    fill(planned_by("offset", "ml-training"))
    somebody = reader()
    assert somebody.get().status_code == 200
    time_machine.move_to(datetime.now(UTC) + timedelta(days=10))
    assert somebody.get().status_code == 401


def test_a_token_in_the_header_is_as_good_as_a_cookie(fill, reader, stranger):
    fill(planned_by("offset", "ml-training"))
    page = stranger.get(headers={"Authorization": f"Bearer {reader().token}"})
    assert page.status_code == 200
    assert "ml-training" in page.text


@pytest.mark.parametrize("who", [{"role": None}, {"name": "marketing"}], ids=str)
def test_somebody_without_any_right_or_to_other_dags_only_is_refused(fill, reader, who):
    fill(planned_by("offset_a", "ml-training"))
    know_dags({"offset_a", "marketing"})
    for query in QUERIES[:4]:
        page = reader(**who).get(query)
        assert (page.status_code, title(page)) == (403, "You may not see this")
        assert "ml-training" not in page.text


def test_an_empty_ledger_says_so_to_those_who_may_read_something_and_stays_unmade(reader, ledger_path):
    know_dags({"offset"})
    assert "The ledger is empty" in reader().may_read()
    assert reader("marketing").get().status_code == 403
    assert not ledger_path.exists()


TWO_TEAMS = (
    planned_by("team_a", "shop", emitted="10"),
    planned_by("team_a", "shop", month="2026-09", emitted="1"),
    planned_by("team_b", "laboratory", emitted="200"),
    planned_by("team_b", "vault", state=State.LINK_MADE, emitted="3000"),
    planned_by("team_b", "attic", month="2024-01", emitted="1"),
    planned_by("team_b", "rehearsal-hall", test_mode=True, emitted="5"),
)


def test_everybody_sees_the_rows_and_sums_of_their_own_dags_only(fill, reader):
    fill(*TWO_TEAMS)
    year, month = reader("team_a").may_read(), reader("team_a").may_read("?month=2026-10")
    for page in (year, month):
        assert "shop" in page
        for other in ("laboratory", "vault", "team_b", "/pay/", "3,210.000", "200.000"):
            assert other not in page.partition("</style>")[2], other
    assert "Emitted 11.000 t" in words(year)
    assert "Emitted 10.000 t" in words(month)
    everything = reader("all").may_read()
    assert "Emitted 3,211.000 t" in words(everything)
    assert "/pay/" in everything


def test_where_others_have_everything_there_is_nothing_to_see(fill, reader):
    fill(*TWO_TEAMS)
    for query in ("?month=2024-01", "?year=2024", "?month=2026-10&test=1", "?test=1"):
        said = words(reader("team_a").may_read(query))
        assert "that you may see" in said, query
        assert not {"laboratory", "attic", "rehearsal-hall", "team_b"} & set(said.split())
        assert "Emitted" not in said.partition("You see what")[0]


def test_nobody_learns_of_which_months_or_that_there_are_rehearsals_of_others(fill, reader):
    fill(*TWO_TEAMS)
    theirs = {"?year=2024", "?test=1"}
    for query in ("", "?month=2026-10", "?month=2026-09"):
        assert not theirs & set(links(reader("team_a").may_read(query)))
        assert theirs <= set(links(reader("team_b").may_read("?year=2026")))
    assert "?month=2026-09" not in links(reader("team_b").may_read("?year=2026"))
    assert not {"2024", "Test mode"} & set(re.findall(r">([^<>]+)</a>", reader("team_a").may_read()))
    nothing = reader("team_a").may_read("?test=1")
    assert "There is nothing in test mode that you may see" in nothing
    assert not [link for link in links(nothing) if "month" in link or "year" in link]


def test_for_somebody_who_may_see_rehearsals_only_it_opens_on_the_newest_and_what_of_it_waits(fill, reader):
    waits = planned_by("team_c", "lab", month="2026-01", test_mode=True, state=State.LINK_MADE)
    fill(*TWO_TEAMS, waits, planned_by("team_c", "shop", month="2025-12", test_mode=True))
    page = reader("team_c").may_read()
    assert "Test mode: nothing of this is retired." in words(page)
    assert words(page).index("Rehearsals to be paid For") < words(page).index("Rehearsals by entity")
    assert "?month=2025-12&amp;test=1" in links(page)  # by its year
    # There is no other kind to choose.
    assert not {".", "?test=1"} & set(links(page))


def test_rows_of_a_dag_that_airflow_has_forgotten_are_seen_by_nobody(fill, reader):
    fill(*TWO_TEAMS)
    know_dags({"team_a"})
    assert "laboratory" not in words(reader("all").may_read("?month=2026-10"))


def test_rights_are_asked_for_anew_each_time(fill, reader):
    fill(*TWO_TEAMS)
    somebody = reader("team_b")
    assert somebody.get().status_code == 200
    know_dags({"team_a"})
    assert somebody.get().status_code == 403


def test_only_getting_is_possible(fill, reader):
    fill(planned_by("offset"))
    somebody = reader()
    for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        page = httpx.request(
            method, f"{somebody.url}{PAGE}", cookies={"_token": somebody.token}, trust_env=False, timeout=60
        )
        assert page.status_code == 405, method
        assert page.headers["cache-control"] == "no-store"


def test_nothing_else_is_served(fill, reader):
    fill(planned_by("offset"))
    for path in ("docs", "redoc", "openapi.json", "x", "static/x", "../carbonmark-offsets/x"):
        page = reader().get(path=f"{PAGE}{path}")
        assert page.status_code == 404, path
        assert "swagger" not in page.text.lower()


def test_a_ledger_of_a_later_version_is_out_of_reach_not_misread(fill, ledger, reader, caplog):
    fill(planned_by("offset", "ml-training"))
    with ledger.begin() as connection:
        connection.execute(text("UPDATE carbonmark_ledger_version SET version = 99"))
    page = reader().get()
    assert (page.status_code, title(page)) == (503, "The ledger can’t be read right now")
    assert "99" not in page.text
    assert "knows up to" in caplog.text
