"""What keeps the parts fitting together: streams have readers, routes ask for a key, errors have their texts."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any, cast, get_type_hints

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from libs.bus import Bus
from libs.clock import FakeClock
from libs.contract.streams import CHANNELS, streams_of
from libs.contract.verbs import verbs
from libs.errors import BY_CODE
from libs.policies import PolicyBoard
from libs.reference_time import reference_clock
from libs.service import Runtime
from libs.subjects import STREAMS
from services.ingest.acceptor import Acceptor
from services.ingest.auth import Keys
from services.ingest.errors import TABLE, describe, status_of
from services.ingest.exchange import Gateway
from services.ingest.recipients import Recipients
from services.ingest.routes import PREFIX, ROUTES, application
from services.ingest.schedule import Schedules
from services.ingest.settings import GatewayHttp
from services.ingest.templated import Renderer

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = [path for part in ("libs", "services", "tests", "proto", "deploy") for path in (ROOT / part).rglob("*.py")]
SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/__main__.py"))
OPEN = {"/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/docs"}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
HANGUL = re.compile(r"[가-힣]")


def source_of(service: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "services" / service).glob("*.py")))


def test_every_stream_is_described() -> None:
    described = [stream for channel in CHANNELS for stream in streams_of(channel)]
    assert sorted(described, key=lambda stream: stream.name) == sorted(STREAMS, key=lambda stream: stream.name)


@pytest.mark.parametrize(
    "channel", [c for c in CHANNELS if c.stream not in ("EVENTS", "DEAD", "ERASURES", "ALERTS")], ids=lambda c: c.name
)
def test_every_work_queue_has_the_one_consumer_that_the_contract_names(channel: Any) -> None:
    reading = [name for name in SERVICES if f'stream=stream_of("{channel.stream}"' in source_of(name)]
    assert tuple(reading) == channel.readers


def test_events_are_read_by_whom_the_contract_names() -> None:
    (events,) = [channel for channel in CHANNELS if channel.name == "events"]
    assert tuple(name for name in SERVICES if "Subscriber(" in source_of(name)) == events.readers


@pytest.mark.parametrize("service", sorted({verb.service for verb in verbs()}))
def test_a_service_answers_the_verbs_of_the_contract_and_no_others(service: str) -> None:
    handlers = importlib.import_module(f"services.{service}.handlers").Handlers
    parts = [kind for name, kind in get_type_hints(handlers.__init__).items() if name != "return"]
    answered = handlers(*(object.__new__(kind) for kind in parts)).verbs()
    replies = {name: get_type_hints(handler)["return"] for name, (_, handler) in answered.items()}
    promised = {verb.name: verb for verb in verbs() if verb.service == service}
    assert {name: kind for name, (kind, _) in answered.items()} == {n: verb.request for n, verb in promised.items()}
    assert replies == {name: verb.reply for name, verb in promised.items()}


@pytest.fixture
def gateway() -> web.Application:
    nobody = cast(Bus, None)  # without a key no service is asked
    schedules = Schedules(reference_clock(nobody, FakeClock()), PolicyBoard(nobody, FakeClock()))
    parts = Gateway(
        nobody, Keys(nobody, FakeClock()), Recipients(nobody), Acceptor(nobody), Renderer(nobody), schedules
    )
    return application(parts, GatewayHttp(), Runtime("ingest"))


async def test_every_route_but_health_and_documentation_asks_for_a_key(gateway: web.Application) -> None:
    refused = set()
    async with TestClient(TestServer(gateway)) as client:
        for route in gateway.router.routes():
            path = re.sub(r"\{\w+\}", "any", route.resource.canonical if route.resource else "")
            if route.method in ("*", "HEAD") or path in OPEN:
                continue
            answer = await client.request(route.method, path, json=None if route.method == "GET" else {})
            assert answer.status == 401, f"{route.method} {path}"
            refused.add(path)
    assert len(refused) == len({PREFIX + route.path for route in ROUTES})


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_code_has_a_status_and_a_text_in_both_languages(code: str) -> None:
    error = BY_CODE[code]()
    assert 400 <= status_of(error) <= 599
    english, korean = describe(error, "en"), describe(error, "ko")
    assert english["code"] == korean["code"] == code
    assert english["message"].endswith(".")
    assert not HANGUL.search(english["message"])
    assert HANGUL.search(korean["message"])


def test_there_is_no_text_for_an_error_that_does_not_exist() -> None:
    assert set(TABLE) == set(BY_CODE)


def test_the_contract_on_imports_names_every_service() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (apart,) = [contract for contract in contracts if contract["type"] == "independence"]
    packages = [f"services.{path.parent.name}" for path in (ROOT / "services").glob("*/__init__.py")]
    assert sorted(apart["modules"]) == sorted(packages)


@pytest.mark.parametrize("service", SERVICES)
def test_an_entry_point_only_names_what_its_service_has(service: str) -> None:
    lines = (ROOT / "services" / service / "__main__.py").read_text().splitlines()
    body = [line for line in lines if line.strip() and not line.startswith(("import ", "from "))]
    assert len(body) <= 40


def test_a_file_is_named_for_what_it_does() -> None:
    named = {path for path in OURS if FORBIDDEN_NAMES & {path.stem, *path.relative_to(ROOT).parent.parts}}
    assert not named
