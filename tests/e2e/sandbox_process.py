"""The sandbox as a process of its own, as `python -m airflow_provider_carbonmark.sandbox` starts it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.processes import PATIENCE, Process, StackError, free_ports, wait_until


class SandboxProcess:
    """
    A sandbox on a free port that can be killed and started again at the same address.

    :param log: file its output is appended to.
    """

    def __init__(self, log: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.process = Process(
            "sandbox",
            [sys.executable, "-m", "airflow_provider_carbonmark.sandbox", "--port", str(port)],
            env=dict(os.environ),
            log=log,
        )

    def start(self) -> None:
        """
        Start it and wait until it answers.

        :raises StackError: with the tail of its log when it does not.
        """
        self.process.start()
        wait_until(self._answers, what=f"the sandbox at {self.url}", timeout=60)

    def stop(self) -> None:
        self.process.stop()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Make a control call, for example ``control("PUT", "switches", {…})``."""
        answer = httpx.request(
            method, f"{self.url}/sandbox/{path}", json=body, timeout=30 * PATIENCE, trust_env=False
        )
        if answer.is_error:
            raise StackError(f"The sandbox refused {method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def connection(self, api_key: str) -> str:
        """Return an Airflow connection to this sandbox, as an environment variable holds it."""
        return json.dumps(
            {
                "conn_type": "carbonmark",
                "host": self.url,
                "password": api_key,
                "extra": {"market_url": self.url, "environment": "test"},
            }
        )

    def _answers(self) -> bool:
        self.process.check()
        try:
            return httpx.get(f"{self.url}/openapi.json", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False
