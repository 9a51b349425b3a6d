"""Every process of an embedded installation: its environment, its ports, and the order in which they start."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

import services
from libs import seal
from services.cli import datadir, nats_server, ports, postgres, vault
from services.cli.credentials import Credentials, demo_credentials
from services.cli.datadir import DataDir
from services.cli.probe import answers_ok
from services.cli.process import Spec

REGION = "local"
CODE = Path(services.__file__ or ".").resolve().parent.parent
"""The directory that holds the packages `services` and `libs`."""

_OURS = (
    "DATABASE_URL", "NATS_URL", "AUTOMATA_DATABASE__URL", "AUTOMATA_NATS__URL", "AUTOMATA_NATS__MAX_STREAM_BYTES",
    "AUTOMATA_KEYS__", "AUTOMATA_HEALTH__", "AUTOMATA_HTTP__HOST", "AUTOMATA_HTTP__PORT", "AUTOMATA_ROLES__",
    "AUTOMATA_API_", "AUTOMATA_DATA_DIR",
)  # fmt: skip
"""Settled here, or no business of a service. Every other variable of `automata up` reaches the services."""

_SEALING = frozenset(("application", "subscription", "lifecycle"))
"""Owners of data that is sealed: they need the key ring."""


class Options(msgspec.Struct, frozen=True):
    """What `automata up` was asked for."""

    port_base: int | None = None
    workers: int = 1
    """Gateway processes on the API's port."""
    overrides: Mapping[str, Mapping[str, str]] = {}
    """Process name to variables for it alone."""
    senders: int = 1
    """Processes of each channel and region."""
    regions: Mapping[str, Sequence[str]] = {}
    """Region to the countries that it serves; the first one serves all others too. None: one region without a name."""


class Stack:
    """Prepares files and ports of one data directory, and describes its processes."""

    def __init__(self, data: DataDir, options: Options) -> None:
        self.data = data
        self._options = options
        self.ports = self._choose_ports()
        self.passwords = vault.passwords(data)
        self.credentials: Credentials = demo_credentials(data, self.ports["sandbox-tls"])
        self.api_url = f"http://127.0.0.1:{self.ports['api']}"
        self.sandbox_url = f"http://127.0.0.1:{self.ports['sandbox']}"
        self.postgres_dsn = vault.postgres_dsn(self.ports["postgres"], self.passwords.postgres)
        self.nats_url = vault.nats_url(self.ports["nats"], self.passwords.nats)
        self._nats_url_file = vault.secret_file(data, "nats_url", self.nats_url)
        self._ring_file = self._key_ring()

    def prepare(self) -> None:
        """Create the database cluster at the first start. Raises `Failure`."""
        postgres.prepare(self.data, self.ports["postgres"], self.passwords.postgres)

    def servers(self) -> list[list[Spec]]:
        """Postgres, then NATS and the sandbox."""
        nats = nats_server.spec(self.data, self.ports["nats"], self.ports["nats-monitor"], self.passwords)
        return [
            [self._overridden(postgres.spec(self.data, self.ports["postgres"]))],
            [self._overridden(nats), self._sandbox()],
        ]

    def services(self) -> list[list[Spec]]:
        """Who owns data, then who passes messages on, then who lets new ones in: stopped the other way round."""
        owners = [self._owner(name) for name in vault.ROLES]
        flow = [self._dispatcher(), *(self._sender(*each) for each in _senders(self._options))]
        return [owners, flow, [self._ingest(number) for number in range(1, self._options.workers + 1)]]

    def _owner(self, name: str) -> Spec:
        dsn = vault.postgres_dsn(self.ports["postgres"], self.passwords.roles[name], f"automata_{name}")
        file = vault.secret_file(self.data, f"database_url_{name}", dsn)
        keys = self._keys() if name in _SEALING else {}
        return self._service(name, {**keys, "DATABASE_URL_FILE": str(file)})

    def _dispatcher(self) -> Spec:
        env = self._keys()
        if self._options.regions:
            by_country = {country: name for name, countries in self._options.regions.items() for country in countries}
            env["AUTOMATA_DISPATCHER__REGION"] = next(iter(self._options.regions))
            env["AUTOMATA_DISPATCHER__REGIONS"] = msgspec.json.encode(by_country).decode()
        return self._service("dispatcher", env)

    def _sender(self, name: str, channel: str, region: str, port: str) -> Spec:
        provider = f"https://127.0.0.1:{self.ports['sandbox-tls']}"
        authority = str(self.data.sandbox / "ca.pem")
        urls = {
            "apns": {
                "AUTOMATA_APNS__PRODUCTION_URL": provider,
                "AUTOMATA_APNS__DEVELOPMENT_URL": provider,
                "AUTOMATA_APNS__CA_FILE": authority,
            },
            "fcm": {"AUTOMATA_FCM__BASE_URL": provider, "AUTOMATA_FCM__CA_FILE": authority},
        }
        channel_env = {"AUTOMATA_SENDER__CHANNEL": channel, "AUTOMATA_SENDER__REGION": region}
        return self._service(name, {**channel_env, **urls[channel]}, module="senders", port=port)

    def _ingest(self, number: int) -> Spec:
        env = {"AUTOMATA_HTTP__HOST": ports.HOST, "AUTOMATA_HTTP__PORT": str(self.ports["api"])}
        if self._options.workers > 1:
            env["AUTOMATA_HTTP__REUSE_PORT"] = "true"
        return self._service("ingest", env, port=f"health-ingest-{number}")

    def _sandbox(self) -> Spec:
        env = {
            "AUTOMATA_SANDBOX__PORT": str(self.ports["sandbox"]),
            "AUTOMATA_SANDBOX__TLS_PORT": str(self.ports["sandbox-tls"]),
            "AUTOMATA_SANDBOX__TENANTS_FILE": str(self.data.secrets / "tenants.json"),
            "AUTOMATA_SANDBOX__DATA_DIR": str(self.data.sandbox),
            # It has workers of its own, which the kernel's death signal does not reach.
            "AUTOMATA_SANDBOX__PARENT_PID": str(os.getpid()),
        }
        return self._python("sandbox", "sandbox", {**_inherited(), **env}, self.sandbox_url, signal.SIGTERM)

    def _service(self, name: str, env: Mapping[str, str], module: str = "", port: str = "") -> Spec:
        health_port = self.ports[port or f"health-{name}"]
        common = {
            "NATS_URL_FILE": str(self._nats_url_file),
            "AUTOMATA_NATS__MAX_STREAM_BYTES": str(nats_server.stream_bytes(self.data.path)),
            "AUTOMATA_NATS__HOLDS": str(self.data.holds),
            "AUTOMATA_HEALTH__HOST": ports.HOST,
            "AUTOMATA_HEALTH__PORT": str(health_port),
        }
        health = f"http://127.0.0.1:{health_port}"
        return self._python(name, module or name, {**_inherited(), **common, **env}, health, signal.SIGKILL)

    def _python(
        self, name: str, module: str, env: dict[str, str], health_url: str, death_signal: signal.Signals
    ) -> Spec:
        return self._overridden(
            Spec(
                name=name,
                argv=(sys.executable, "-m", f"services.{module}"),
                env={**env, "PYTHONUNBUFFERED": "1"},
                cwd=CODE,
                ready=partial(answers_ok, f"{health_url}/readyz"),
                death_signal=death_signal,
                health_url=health_url,
            )
        )

    def _overridden(self, spec: Spec) -> Spec:
        spec.env.update(self._options.overrides.get(spec.name, {}))
        return spec

    def _keys(self) -> dict[str, str]:
        return {"AUTOMATA_KEYS__RING_FILE": str(self._ring_file)}

    def _key_ring(self) -> Path:
        path = self.data.secrets / "ring.json"
        if not path.exists():
            datadir.write_bytes(path, seal.new_ring())
        return path

    def _choose_ports(self) -> dict[str, int]:
        remembered = datadir.read(self.data.ports_file, dict[str, int]) or {}
        chosen = ports.choose(port_names(self._options), self._options.port_base, remembered)
        datadir.write(self.data.ports_file, remembered | chosen)
        return chosen


def port_names(options: Options) -> Sequence[str]:
    """In the order in which `--port-base` numbers them."""
    senders = [port for _, _, _, port in _senders(options)]
    apart = ("application", "subscription", "lifecycle", "dispatcher")
    gateways = (f"health-ingest-{number}" for number in range(1, options.workers + 1))
    servers = ("api", "sandbox", "sandbox-tls", "postgres", "nats", "nats-monitor")
    return (*servers, *(f"health-{name}" for name in apart), *senders, "health-templating", *gateways)


def _senders(options: Options) -> Iterator[tuple[str, str, str, str]]:
    """Of each sender process: its name, channel, region, and the name of its health port."""
    for region in options.regions or (REGION,):
        for channel in ("apns", "fcm"):
            name = f"sender-{channel}-{region}" if options.regions else f"sender-{channel}"
            for number in range(1, options.senders + 1):
                yield name, channel, region, f"health-{name}" if number == 1 else f"health-{name}-{number}"


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
