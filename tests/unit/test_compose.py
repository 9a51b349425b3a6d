"""docker-compose.yml fits the code: its services exist, its settings are real, each gets the secrets it needs."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from libs.config import ALIASES, load
from libs.seal import KeyRing
from services.cli.main import COMMANDS
from services.cli.migrate import Settings as MigrateSettings
from services.cli.serve import SERVICES
from services.cli.wheels import nats_server
from services.sandbox.tenants import Tenants

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "automata-signal"}
SERVING = {name: each for name, each in OURS.items() if each.get("command", [""])[0] == "serve"}
IMAGE_ENV: dict[str, str] = dict(re.findall(r"(AUTOMATA_\w+)=(\S+)", (ROOT / "deploy" / "Dockerfile").read_text()))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each secret of the compose file as the file that a container sees, with what `make compose-env` puts there."""
    specification = importlib.util.spec_from_file_location("new_env", ROOT / "deploy" / "compose" / "new_env.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    values: dict[str, str] = {}
    for line in module.lines(module.new_env()).splitlines():
        name, _, quoted = line.partition("=")
        assert re.fullmatch(r"'[^']*'", quoted), name
        values[name] = quoted[1:-1]
    folder = tmp_path_factory.mktemp("secrets")
    for name, source in COMPOSE["secrets"].items():
        (folder / name).write_text(values[source["environment"]])
    return {name: folder / name for name in COMPOSE["secrets"]}


def environment(service: dict[str, Any], secrets: dict[str, Path]) -> dict[str, str]:
    """What a process in the container finds; secrets that the service was not given do not exist."""
    mounted: dict[str, str] = {}
    for secret in service.get("secrets", []):
        source, target = (secret["source"], secret["target"]) if isinstance(secret, dict) else (secret, secret)
        mounted[f"/run/secrets/{target}"] = str(secrets[source])
    given: dict[str, str] = {name: str(value) for name, value in service["environment"].items()}
    return {name: mounted.get(value, value) for name, value in {**IMAGE_ENV, **given}.items()}


def settings_of(service: dict[str, Any]) -> Any:
    if service["command"][0] == "migrate":
        return MigrateSettings
    package = SERVICES[service["command"][1]]
    return importlib.import_module(f"services.{package}.settings").Settings


def known_names(kind: Any) -> set[str]:
    """Every variable that the struct reads."""
    found = set()
    for section, piece in kind.__annotations__.items():
        for field in piece.__struct_fields__:
            name = f"AUTOMATA_{section}__{field}".upper()
            found |= {name, ALIASES.get(name, name)}
    return found | {f"{name}_FILE" for name in found}


def test_every_service_of_the_product_has_an_entry() -> None:
    run = {each["command"][1] for each in SERVING.values()}
    assert run == set(SERVICES)
    channels = {each["command"][3] for each in SERVING.values() if each["command"][1] == "sender"}
    assert channels == {"apns", "fcm"}


@pytest.mark.parametrize("name", OURS)
def test_a_container_runs_a_command_that_exists(name: str) -> None:
    service = OURS[name]
    if "entrypoint" in service:
        assert (ROOT / service["entrypoint"][1]).exists()
    else:
        assert service["command"][0] in COMMANDS


@pytest.mark.parametrize("name", [name for name in OURS if name != "demo"])
def test_a_container_is_given_real_settings_and_enough_of_them(name: str, secrets: dict[str, Path]) -> None:
    service = OURS[name]
    kind = settings_of(service)
    assert set(service["environment"]) <= known_names(kind)
    found = environment(service, secrets)
    if "sender" in name:
        found["AUTOMATA_SENDER__CHANNEL"] = service["command"][3]  # what the command line says
    load(kind, found)


@pytest.mark.parametrize("name", OURS)
def test_a_container_names_no_secret_that_it_is_not_given(name: str, secrets: dict[str, Path]) -> None:
    left = [value for value in environment(OURS[name], secrets).values() if value.startswith("/run/secrets/")]
    assert not left


def test_only_owners_of_data_reach_the_database_and_each_as_its_own_role(secrets: dict[str, Path]) -> None:
    for name, service in SERVING.items():
        found = environment(service, secrets)
        if "DATABASE_URL_FILE" in found:
            assert f"//automata_{name}:" in Path(found["DATABASE_URL_FILE"]).read_text()
    assert {name for name, each in SERVING.items() if "DATABASE_URL_FILE" in each["environment"]} == {
        "application",
        "subscription",
        "templating",
        "lifecycle",
    }


def test_the_secrets_are_of_the_form_that_their_readers_want(secrets: dict[str, Path]) -> None:
    KeyRing.load(secrets["key_ring"])
    tenants = Tenants(secrets["sandbox_tenants"])
    tenants.refresh()
    apns = json.loads(secrets["demo_credentials"].read_bytes())["apns"]
    assert tenants.apns_key(apns["team_id"], apns["key_id"]) is not None


def test_health_is_asked_where_the_service_answers() -> None:
    assert "http://127.0.0.1:9000/readyz" in (ROOT / "deploy" / "Dockerfile").read_text()
    for service in SERVING.values():
        own = service["environment"].get("AUTOMATA_SANDBOX__PORT", IMAGE_ENV["AUTOMATA_HEALTH__PORT"])
        assert own == "9000"


def test_nats_takes_its_configuration() -> None:
    command = [str(nats_server()), "-t", "-c", str(ROOT / "deploy" / "nats" / "nats.conf")]
    secrets = {"NATS_PASSWORD": "k1", "NATS_STORE_KEY": "k2"}
    subprocess.run(command, env=secrets, check=True, capture_output=True, timeout=20)
