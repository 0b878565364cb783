"""
What the README has a newcomer do, from ``pip install`` on: the commands, the DAG and the clicks that are in it, with the wheel.

Only the ports are others: those that nobody listens on. The browser takes ``http://localhost:8080`` for the one of this Airflow, so what
Airflow says of itself where nobody told it an address is what is tested. Of the package index, there is this environment.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from airflow_provider_carbonmark import __version__
from tests.e2e.airflow_stack import digested
from tests.e2e.browser import MILLISECONDS, chromium, follow, heading, pay_with
from tests.e2e.buyer import THANKS
from tests.e2e.conftest import ROOT
from tests.e2e.processes import Process, RunFailed, free_ports, wait_until

pytestmark = pytest.mark.e2e

README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Airflow's own default, and the sandbox's.
AIRFLOW, SANDBOX = "http://localhost:8080", "127.0.0.1:8787"


def commands(first: str) -> list[str]:
    """Return the commands of the README's block that begins like that."""
    (block,) = (
        each for each in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if each.startswith(first)
    )
    return [line.removeprefix("$ ") for line in block.splitlines()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, and nothing else, into a new environment beside all that this one has; return its programs."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    programs = folder / "env" / "bin"
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    (libraries / "what_the_package_index_has.pth").write_text(sysconfig.get_path("purelib"))
    command, package = commands("$ pip install")[0].rsplit(" ", 1)
    assert (command, package) == ("pip install", "airflow-provider-carbonmark")
    pip = [programs / "pip", "install", "--no-index", "--no-deps", "--ignore-installed", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    airflow = programs / "airflow"
    airflow.write_text(
        f"#!{programs / 'python'}\nimport sys\nfrom airflow.__main__ import main\nsys.exit(main())\n"
    )
    airflow.chmod(0o755)
    return programs


class Newcomer:
    """
    Somebody at two terminals, with a home of their own.

    :param programs: where what they installed is.
    :param home: their home; Airflow's is below it.
    :param ports: of the sandbox and of Airflow.
    """

    def __init__(self, programs: Path, home: Path, ports: list[int]) -> None:
        self.sandbox, self.port, *logs = ports
        self.home = home
        self._running = ExitStack()
        outside = ("AIRFLOW", "PYTHON", "VIRTUAL_ENV")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(outside)} | {
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{self.port}/execution/",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(logs[0]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(logs[1]),
        }

    def here(self, text: str) -> str:
        """Return a text of the README with the sandbox's port."""
        return text.replace(SANDBOX, f"127.0.0.1:{self.sandbox}")

    def types(self, command: str) -> Process | None:
        """Type a command; what doesn't end by itself goes on until this newcomer has gone."""
        if exported := re.fullmatch(r"export (\w+)='?(.*?)'?", command):
            self.env[exported[1]] = self.here(exported[2])
            return None
        words = command.split()
        assert words[0] == "airflow", command
        port = [f"--port={self.sandbox}"] if words[-1] == "sandbox" else []
        process = Process(words[-1], words + port, env=self.env, log=self.home / f"{words[-1]}.log")
        process.start()
        self._running.callback(process.stop)
        return process

    def saves_the_dag(self) -> None:
        """Save the README's first DAG where the README says."""
        (dag,) = (each for each in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "@dag\n" in each)
        folder = self.home / "airflow" / "dags"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "offset_one_tonne.py").write_text(self.here(dag))

    def sees(self, what: str, table: str) -> list[str]:
        """Return a column of what a table of Airflow's has of the DAG."""
        with closing(sqlite3.connect(self.home / "airflow" / "airflow.db")) as database:
            rows = database.execute(f"SELECT {what} FROM {table} WHERE dag_id = 'offset_one_tonne'")
            return [str(value) for (value,) in rows]

    def run_ended_well(self) -> bool:
        """Return whether it has. :raises RunFailed: when a try of a task failed, with what Airflow said that is more than progress."""
        tries = self.sees("state", "task_instance")
        if {"failed", "up_for_retry", "upstream_failed"} & set(tries):
            lines = (self.home / "standalone.log").read_text(errors="replace").splitlines()
            told = "\n".join([line for line in lines if "[info" not in line][-60:])
            raise RunFailed(f"A task of the README's DAG failed ({tries}):\n{told}")
        return self.sees("state", "dag_run") == ["success"]

    def goes(self) -> None:
        self._running.close()


@pytest.fixture
def newcomer(installed: Path, tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = Newcomer(installed, tmp_path, free_ports(4))
    yield newcomer
    newcomer.goes()


@pytest.fixture
def page(newcomer: Newcomer) -> Iterator[Page]:
    with chromium(f"--host-resolver-rules=MAP localhost:8080 127.0.0.1:{newcomer.port}") as browser:
        context = browser.new_context(locale="en-US")
        context.set_default_timeout(MILLISECONDS)
        yield context.new_page()


def test_a_newcomer_buys_a_tonne_from_the_sandbox_by_the_readme(newcomer: Newcomer, page: Page) -> None:
    newcomer.types(commands("$ pip install")[1])
    newcomer.saves_the_dag()
    for command in commands("$ export"):
        standalone = newcomer.types(command)
    assert standalone is not None

    def password() -> str | None:
        standalone.check()
        said = re.search(r"Password for user 'admin': (\S+)", standalone.log.read_text())
        return said and said[1]

    signs_in(page, wait_until(password, what="Airflow to say its password", timeout=180))
    wait_until(lambda: newcomer.sees("dag_id", "dag"), what="Airflow to find the DAG", timeout=180)
    triggers(page)

    wait_until(
        lambda: digested(standalone.log, "task_id='payment'"),
        what="Airflow to know that the task waits",
        timeout=120,
    )
    page.goto(f"{AIRFLOW}/required_actions")
    page.get_by_role("link", name=re.compile("Pay for 1 t")).click()
    paying = follow(page)
    pay_with(paying)
    assert paying.url.startswith(f"{AIRFLOW}/carbonmark/return/")
    assert heading(paying) == THANKS
    wait_until(newcomer.run_ended_well, what="the run to end", timeout=120)

    page.goto(f"{AIRFLOW}/")
    page.get_by_role("button", name="Browse").click()
    with page.expect_popup() as opened:
        page.get_by_role("menuitem", name="Carbon offsets").click()
    expect(opened.value.get_by_text("Example Corp").first).to_be_visible(timeout=MILLISECONDS)


def signs_in(page: Page, password: str) -> None:
    wait_until(lambda: is_up(page), what="Airflow to answer", timeout=120)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    # Where the DAG is there already, going on at once would be cut off by the way from signing in.
    page.wait_for_url(f"{AIRFLOW}/")


def is_up(page: Page) -> bool:
    try:
        return bool(page.goto(AIRFLOW))
    except Exception:
        return False


def triggers(page: Page) -> None:
    page.goto(f"{AIRFLOW}/dags/offset_one_tonne")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()


def test_the_samples_are_in_the_wheel_and_stay_out_of_the_way(installed: Path) -> None:
    code = """
import importlib.util, pathlib, airflow_provider_carbonmark as ours
from airflow.providers_manager import ProvidersManager
print(ProvidersManager().providers["airflow-provider-carbonmark"].version, ours.__version__)
print(*sorted(path.stem for path in (pathlib.Path(ours.__file__).parent / "example_dags").glob("*.py")))
"""
    # -I: not from where the tests are.
    done = subprocess.run([installed / "python", "-Ic", code], check=True, capture_output=True, text=True)
    versions, dags = done.stdout.splitlines()[-2:]
    assert versions == f"{__version__} {__version__}"
    assert dags.split() == sorted(path.stem for path in (ROOT / "dags").glob("*.py"))
