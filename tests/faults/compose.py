"""What docker-compose.yml would run, as processes of this machine: same commands, same variables, other addresses."""

import importlib.util
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent.parent
NEW_ENV = ROOT / "deploy/compose/new_env.py"
_SECRETS = "/run/secrets/"
_VOLUME = "/var/lib/automata"
_SANDBOX = "sandbox:8443"


class Addresses(msgspec.Struct, frozen=True):
    """Where the hosts of the compose file are on this machine."""

    postgres: list[str]
    """`host:port` of each server; one of them takes changes."""
    nats: list[str]
    sandbox_tls: str


class Compose:
    """The compose file with fresh secrets, in files under `folder`."""

    def __init__(self, folder: Path, addresses: Addresses) -> None:
        self._folder = folder
        self._addresses = addresses
        self._file: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
        self.values = _new_values(addresses)
        for name, source in self._file["secrets"].items():
            secret = folder / name
            secret.touch(mode=0o600)
            secret.write_text(self.values[source["environment"]])

    def command(self, service: str) -> list[str]:
        """Arguments of `automata`."""
        found: list[str] = self._file["services"][service]["command"]
        return found

    def environment(self, service: str) -> dict[str, str]:
        """What the container finds, with its secrets and its volume where they are here."""
        definition = self._file["services"][service]
        mounted = {_VOLUME: str(self._folder.parent / "sandbox"), _SANDBOX: self._addresses.sandbox_tls}
        for secret in definition.get("secrets", []):
            source, target = (secret["source"], secret["target"]) if isinstance(secret, dict) else (secret, secret)
            mounted[_SECRETS + target] = str(self._folder / source)
        return {name: _placed(str(value), mounted) for name, value in definition["environment"].items()}


def _placed(value: str, mounted: dict[str, str]) -> str:
    for there, here in mounted.items():
        value = value.replace(there, here)
    return value


def _new_values(addresses: Addresses) -> dict[str, str]:
    """What `make compose-env` makes, with our addresses in it."""
    specification = importlib.util.spec_from_file_location("new_env", NEW_ENV)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    database = f"@{','.join(addresses.postgres)}/automata?target_session_attrs=read-write"
    placed = {"@postgres:5432/automata": database, _SANDBOX: addresses.sandbox_tls}
    found = {name: _placed(value, placed) for name, value in module.new_env().items()}
    login = f"nats://automata:{found['NATS_PASSWORD']}@"
    return found | {"NATS_URL": ",".join(login + server for server in addresses.nats)}
