"""What Airflow discovers: metadata, connection form, links and configuration."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

import airflow_provider_carbonmark
from airflow_provider_carbonmark.get_provider_info import get_provider_info
from airflow_provider_carbonmark.hooks import connection_form
from airflow_provider_carbonmark.hooks.checkout import DEFAULT_LINK_HOURS
from airflow_provider_carbonmark.hooks.return_url import DEFAULT_TOKEN_DAYS, PREFIX
from airflow_provider_carbonmark.hooks.shared_client import DEFAULT_CONCURRENT_POLLS
from airflow_provider_carbonmark.web.place import MENU_ENTRY

INFO = get_provider_info()
PACKAGE = Path(airflow_provider_carbonmark.__file__).parent
LABELS = {
    "market_url": "Market API URL",
    "timeout": "Timeout (seconds)",
    "environment": "Environment",
}


def named(text: str) -> object:
    module, name = text.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def test_the_metadata_passes_the_schema_of_this_airflow():
    schema = Path(airflow.__file__).with_name("provider_info.schema.json")
    jsonschema.validate(INFO, json.loads(schema.read_text()))
    json.dumps(INFO)


def entry_point(group: str) -> importlib.metadata.EntryPoint:
    """Return the one that is ours."""
    every = importlib.metadata.entry_points(group=group)
    (ours,) = (entry for entry in every if entry.value.startswith("airflow_provider_carbonmark"))
    return ours


def test_the_package_is_named_as_the_distribution_that_brings_it():
    entry = entry_point("apache_airflow_provider")
    assert entry.dist.metadata["Name"] == INFO["package-name"]
    assert entry.load()() == INFO


def test_airflow_finds_the_plugin_by_entry_point_and_metadata():
    entry = entry_point("airflow.plugins")
    (described,) = INFO["plugins"]
    plugin = entry.load()
    assert plugin is named(described["plugin-class"])
    assert plugin.name == described["name"] == entry.name
    assert [app["url_prefix"] for app in plugin.fastapi_apps] == [PREFIX, "/carbonmark-offsets"]
    assert plugin.external_views == [MENU_ENTRY]


def test_there_is_no_console_script():
    scripts = importlib.metadata.entry_points(group="console_scripts")
    assert [script for script in scripts if "carbonmark" in script.value] == []


def test_every_class_and_module_is_named_and_exists():
    names = [connection["hook-class-name"] for connection in INFO["connection-types"]] + INFO["extra-links"]
    assert all(isinstance(named(name), type) for name in names)
    bases = {"hooks": "Hook", "operators": "Operator", "sensors": "SensorOperator", "triggers": "Trigger"}
    found = {
        f"airflow_provider_carbonmark.{kind}.{path.stem}"
        for kind, base in bases.items()
        for path in (PACKAGE / kind).glob("*.py")
        if re.search(rf"^class Carbonmark\w+\(\w*{base}\):", path.read_text(), re.MULTILINE)
    }
    entries = [entry for kind in bases for entry in INFO[kind]]
    assert {module for entry in entries for module in entry["python-modules"]} == found
    (integration,) = (each["integration-name"] for each in INFO["integrations"])
    assert {entry["integration-name"] for entry in entries} == {integration}


def test_airflow_finds_hook_and_links():
    manager = ProvidersManager()
    hook = ProvidersManagerTaskRuntime().hooks["carbonmark"]
    assert hook.hook_name == "Carbonmark"
    assert hook.connection_testable
    assert hook.package_name == "airflow-provider-carbonmark"
    assert set(INFO["extra-links"]) <= set(manager.extra_links_class_names)


def test_airflow_reads_labelled_fields_and_placeholders_from_the_metadata():
    manager = ProvidersManager()
    fields = {
        info.field_name: info.field
        for name, info in manager.connection_form_widgets.items()
        if name.startswith("extra__carbonmark__")
    }
    assert {name: field["schema"]["title"] for name, field in fields.items()} == LABELS
    assert fields["environment"]["schema"]["enum"] == ["production", "test", None]
    assert all(field["description"] for field in fields.values())
    behaviour = manager.field_behaviours["carbonmark"]
    # Airflow prefixes the placeholders of extra fields on the way.
    shown = {name.rpartition("__")[2]: text for name, text in behaviour["placeholders"].items()}
    assert shown["host"] == "https://checkout.carbonmark.com"
    assert shown["market_url"] == "https://v20.api.carbonmark.com"
    assert shown["timeout"] == "30"
    assert behaviour["relabeling"] == {"host": "Checkout Service URL", "password": "API key"}
    assert {"schema", "login"} <= set(behaviour["hidden_fields"])


def test_the_form_offers_exactly_the_fields_that_the_hook_reads():
    source = (PACKAGE / "hooks" / "carbonmark.py").read_text()
    assert (
        set(re.findall(r'extra\.get\("(\w+)"\)', source)) == set(LABELS) == set(connection_form.CONN_FIELDS)
    )


def test_airflow_knows_the_configuration_and_its_defaults():
    # It does so when it is asked.
    ProvidersManager().initialize_providers_configuration()
    assert conf.get("carbonmark", "return_base_url", fallback=None) is None
    assert conf.get("carbonmark", "deployment", fallback=None) is None
    assert conf.getint("carbonmark", "return_token_days") == DEFAULT_TOKEN_DAYS == 60
    assert conf.getint("carbonmark", "link_hours") == DEFAULT_LINK_HOURS == 24
    assert conf.getint("carbonmark", "max_concurrent_polls") == DEFAULT_CONCURRENT_POLLS == 10


def test_every_option_is_read_and_every_option_read_is_described():
    read = set()
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        read |= set(re.findall(r'conf\.get\w*\(\s*"carbonmark", "(\w+)"', source))
        # This one has a default in another section.
        read |= set(re.findall(r'\("carbonmark", "(\w+)"\), \("api"', source))
    (section,) = INFO["config"]
    assert section == "carbonmark"
    assert read == set(INFO["config"][section]["options"])


@pytest.mark.parametrize(
    ("module", "names"),
    {
        "hooks.carbonmark": {"CarbonmarkHook", "CarbonmarkConnection"},
        "operators.carbonmark": {"CarbonmarkCreateCheckoutOperator", "CarbonmarkCreateQuoteOperator"},
        "sensors.carbonmark": {"CarbonmarkRetirementSensor"},
        "triggers.carbonmark": {"CarbonmarkRetirementTrigger"},
        "links": {"CheckoutLink", "RetirementLink"},
        "sandbox": {"SandboxServer"},
    }.items(),
)
def test_the_public_names_are_these(module, names):
    found = importlib.import_module(f"airflow_provider_carbonmark.{module}")
    assert all(isinstance(getattr(found, name), type) for name in names)
    own = {name for name, value in vars(found).items() if getattr(value, "__module__", "") == found.__name__}
    assert {name for name in own if name.startswith("Carbonmark")} <= names


def test_the_types_are_shipped():
    assert (PACKAGE / "py.typed").exists()
