"""Where the ledger is when nothing says so: in a file in Airflow's home, and nowhere when that home is not the only one."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    BaseHook,
)

from airflow_provider_carbonmark.hooks.ledger import (
    DEFAULT_FILE,
    keeping_books,
    ledger_path,
    open_ledger,
)
from airflow_provider_carbonmark.ledger.names import LedgerError, LedgerUnreachableError

CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"

# As Airflow takes it, and what the message says of it.
ELSEWHERE = {
    "KubernetesExecutor": "KubernetesExecutor",
    CELERY: "CeleryExecutor",
    " CeleryExecutor , KubernetesExecutor ": "CeleryExecutor",
    "Near:LocalExecutor,Far:CeleryExecutor": "CeleryExecutor",
    "=LocalExecutor;team1=LocalExecutor,Far:my.package.Executor": "Executor",
    # Somebody's own, of which nobody knows where it runs tasks.
    "my.package.LocalExecutor": "LocalExecutor",
}
LOCAL = [
    " LocalExecutor ",
    "",
    "Near:airflow.executors.local_executor.LocalExecutor",
    "LocalExecutor;team1=LocalExecutor",
]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make an empty home of Airflow, and say nothing of a ledger."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    for name in ("LEDGER_CONN_ID", "LEDGER_PATH"):
        monkeypatch.delenv(f"AIRFLOW__CARBONMARK__{name}", raising=False)
    return tmp_path


@pytest.mark.parametrize("executor", LOCAL)
def test_on_one_machine_it_is_a_file_in_airflow_s_home(
    monkeypatch: pytest.MonkeyPatch, home: Path, executor: str
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    assert ledger_path() == home / DEFAULT_FILE


@pytest.mark.parametrize(("executor", "name"), ELSEWHERE.items())
def test_on_several_machines_that_file_is_refused_and_not_made(
    monkeypatch: pytest.MonkeyPatch, home: Path, executor: str, name: str
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    # Without a retry: that would find the same.
    with pytest.raises(AirflowFailException, match=f"^{name} runs tasks on more than one machine") as refused:
        keeping_books().__enter__()
    assert "[carbonmark] ledger_conn_id" in str(refused.value)
    assert "ledger_path to a file that all machines mount" in str(refused.value)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("marker", "name"),
    {
        "AIRFLOW_IS_K8S_EXECUTOR_POD": "KubernetesExecutor",
        "AIRFLOW_IS_EXECUTOR_CONTAINER": "An executor of containers",
    }.items(),
)
def test_a_task_s_own_container_is_seen_though_its_configuration_says_local(
    monkeypatch: pytest.MonkeyPatch, marker: str, name: str
) -> None:
    # As in the pod templates of Airflow's chart and of its Kubernetes provider.
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv(marker, "True")
    # As the page opens it, which would show an empty one instead.
    with pytest.raises(LedgerError, match=f"^{name} runs tasks on more than one machine"):
        open_ledger().__enter__()


def test_a_file_that_is_named_is_taken_on_several_machines_too(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_PATH", "~/new/folder/ledger.db")
    assert ledger_path() == home / "new" / "folder" / "ledger.db"
    with open_ledger() as ledger:
        assert ledger.lines() == []


def test_a_connection_that_is_named_is_taken_on_several_machines_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__CARBONMARK__LEDGER_CONN_ID", "books")
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f"sqlite:///{tmp_path}/books.db")
    with open_ledger():
        pass


@pytest.mark.parametrize(
    ("option", "value", "error", "says"),
    [
        ("CONN_ID", "web", AirflowException, "'web', which is no database|Unknown hook type"),
        ("CONN_ID", "market", AirflowException, "'market', which is no database .CarbonmarkHook."),
        ("CONN_ID", "nobody", AirflowNotFoundException, "ledger_conn_id names the connection 'nobody'"),
        (
            "CONN_ID",
            "books",
            LedgerUnreachableError,
            "text.db/books.db, can't .*ledger_conn_id and that conn",
        ),
        ("PATH", "ledger.db", AirflowFailException, "ledger_path is no whole path .got 'ledger.db'."),
        ("PATH", "{home}/text.db/x", LedgerUnreachableError, "text.db/x, can't be opened.*ledger_path"),
        ("PATH", "{home}", LedgerUnreachableError, "unable to open database file.*ledger_path"),
        ("PATH", "{home}/text.db", LedgerUnreachableError, "text.db.*is not a database.*ledger_path"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_option_and_may_be_tried_again_where_that_helps(
    monkeypatch: pytest.MonkeyPatch, home: Path, option: str, value: str, error: type[Exception], says: str
) -> None:
    if value == "nobody":
        # To look for it in Airflow's own database changes what later tests find of Airflow.
        monkeypatch.setattr(BaseHook, "get_connection", Mock(side_effect=AirflowNotFoundException))
    (home / "text.db").write_text("This is no database. " * 100)
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f"sqlite:///{home}/text.db/books.db")
    monkeypatch.setenv("AIRFLOW_CONN_WEB", "http://example.com")
    monkeypatch.setenv("AIRFLOW_CONN_MARKET", "carbonmark://")
    monkeypatch.setenv(f"AIRFLOW__CARBONMARK__LEDGER_{option}", value.format(home=home))
    with pytest.raises(error, match=says), keeping_books() as ledger:
        ledger.upgrade()
