"""Starting and stopping: as a context manager, over TLS, and from the command line."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from functools import partial

import httpx
import pytest

from airflow_provider_carbonmark.sandbox import SandboxServer
from airflow_provider_carbonmark.sandbox.__main__ import main
from airflow_provider_carbonmark.sandbox.world.cards import CARDS


def test_the_package_has_no_other_names():
    import airflow_provider_carbonmark.sandbox as package

    with pytest.raises(AttributeError, match="Nothing"):
        _ = package.Nothing


def test_two_answer_side_by_side_with_switches_of_their_own_and_are_gone_on_exit():
    with SandboxServer(prices_layout="items") as one, SandboxServer() as other:
        assert one.url != other.url
        assert one.url.startswith("http://127.0.0.1:")
        assert list(httpx.get(f"{one.url}/prices").json()) == ["items"]
        assert len(httpx.get(f"{other.url}/prices").json()) == 50
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{one.url}/prices")


def test_it_stops_while_answers_are_on_their_way_and_connections_open():
    statuses: list[int | None] = []
    with SandboxServer(faults=[{"kind": "slow", "seconds": 3600, "next": 1}]) as sandbox:

        def wait():
            try:
                statuses.append(httpx.get(f"{sandbox.url}/prices", timeout=60).status_code)
            except httpx.RemoteProtocolError:
                statuses.append(None)

        waiting = threading.Thread(target=wait)
        waiting.start()
        idle = httpx.Client()
        while not idle.get(f"{sandbox.url}/sandbox/requests").json():
            pass
    waiting.join(60)
    idle.close()

    assert statuses in ([500], [None])


def test_it_speaks_https_and_says_so_in_its_links(certificate):
    pem, key = map(str, certificate)
    context = ssl.create_default_context(cafile=pem)
    with SandboxServer(ssl_certfile=pem, ssl_keyfile=key, faults=[{"kind": "drop", "next": 1}]) as sandbox:
        assert sandbox.url.startswith("https://127.0.0.1:")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{sandbox.url}/prices", verify=context)
        assert httpx.get(f"{sandbox.url}/prices", verify=context).status_code == 200
        assert sandbox.url in httpx.get(f"{sandbox.url}/", verify=context).text


def test_the_command_prints_a_connection_to_use_and_stops_quietly():
    command = [sys.executable, "-m", "airflow_provider_carbonmark.sandbox"]
    options, pipe = ["--port", "0", "--retirement-seconds", "0"], subprocess.PIPE
    # Who started the tests in the background may have them, and so their processes, pass over Ctrl-C.
    listening = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*command, *options],
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=listening,  # noqa: PLW1509 - no other thread here
    ) as process:
        lines = [process.stdout.readline() for _ in range(6)]
        variable = next(line for line in lines if "AIRFLOW_CONN_CARBONMARK_DEFAULT" in line)
        connection = json.loads(variable.split("=", 1)[1].strip().strip("'"))
        url = connection["host"]
        assert connection["conn_type"] == "carbonmark"
        assert connection["extra"] == {"market_url": url, "environment": "test"}
        assert not any("AIRFLOW__CARBONMARK__" in line for line in lines)
        assert httpx.get(f"{url}/sandbox/switches").json()["retirement_seconds"] == 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert '"GET /sandbox/switches HTTP/1.1" 200' in errors


def test_the_command_says_which_port_is_in_use(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--port", port]) == 2

    said = capsys.readouterr().err
    assert said == f"Cannot serve at 127.0.0.1:{port}: Address already in use. Try another --port.\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "99999"], "'99999' is not a port: use 0 to 65535"),
        (["--port", "http"], "'http' is not a port"),
        (["--fault", "drop"], "'drop' is not of the form kind=error,status=503"),
        (["--status-words", "{"], "'{' is not JSON"),
        (["--ssl-certfile", "/nowhere.pem"], "there is no file '/nowhere.pem'"),
        (["--bought-at", "nowhere"], "invalid choice: 'nowhere'"),
        (["--latency", "-1"], "latency is '-1'"),
        (["--fault", "kind=boom"], "faults.0.kind is 'boom'"),
        (["--proof-fields", "photo"], "proof_fields.0 is 'photo'"),
    ],
)
def test_the_command_says_what_is_wrong_with_an_option(capsys, arguments, complaint):
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert complaint in capsys.readouterr().err


def test_the_commands_help_names_every_card(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert all(card.spaced_number in said for card in CARDS)
