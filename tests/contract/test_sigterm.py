"""SIGTERM to real processes that have work in hand which does not get on: they end within the bound that supervisors
rely on, and what they held was finished, or is at once with the next."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from libs.bus import Bus
from libs.clock import FakeClock
from libs.config import Nats
from libs.envelope import DispatchEnvelope, Outcome, OutcomeEnvelope, SendEnvelope, encode
from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.pg import single_connection
from libs.rpc import Accept, AcceptReply, AskTime, KnownOutcomes, Now
from libs.seal import KeyRing
from libs.service import CLOSE_SECONDS, DRAIN_SECONDS
from libs.subjects import outcome, stream_of
from services.cli.process import Spec
from services.dispatcher import dispatch
from services.lifecycle import outcomes
from tests.contract.dispatcher_harness import DISPATCH, SUBJECT, DispatcherHarness, harness_on
from tests.contract.h2_server import H2Server
from tests.contract.lifecycle_harness import APPLICATION as OWNER
from tests.contract.lifecycle_harness import LifecycleHarness
from tests.contract.rest_gateway import Platform, Rest
from tests.contract.sender_harness import DURABLE, OUTCOME, OUTCOME_SUBJECT, SEND, Peers
from tests.contract.sender_harness import SUBJECT as SEND_SUBJECT
from tests.contract.service_process import process_of
from tests.contract.streams_harness import APPLICATION, connected, tapped, until
from tests.databases import Database
from tests.push_samples import apple_credential, delivery
from tests.servers import free_port

BOUND = DRAIN_SECONDS + CLOSE_SECONDS
AT_ONCE = 5.0
"""Seconds: a third of what an envelope waits for a holder that died."""
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_supervisors_wait_for_longer_than_that() -> None:
    ((_, seconds),) = Spec.stop_signals
    assert seconds > BOUND
    assert "stop_grace_period: 30s" in Path("docker-compose.yml").read_text()


async def test_a_sender_whose_provider_hangs(nats_settings: Nats, tmp_path: Path) -> None:
    """Its calls are waited for, and reported; what it has not called is given back."""

    async def now(_: AskTime) -> Now:
        return Now(int(time.time() * 1000))

    deadline_ms = int(time.time() * 1000) + 3_600_000
    items = [delivery(message_id=new_id(), deadline_ms=deadline_ms) for _ in range(6)]
    peers = Peers()
    peers.credentials[APPLICATION] = apple_credential()
    async with connected(nats_settings, "peers") as bus, H2Server(lambda _: None, tmp_path) as apple:
        await peers.serve_application(bus)
        await bus.serve("lifecycle", {"known_outcomes": (KnownOutcomes, peers.known_outcomes), "now": (AskTime, now)})
        own = {
            "SENDER__CHANNEL": "apns",
            "SENDER__APPLICATION_CONCURRENCY": "2",
            "SENDER__SLOW_AFTER": "30",
            "APNS__PRODUCTION_URL": apple.url,
            "APNS__CA_FILE": str(apple.ca_file),
        }
        async with (
            tapped(bus, OUTCOME, OUTCOME_SUBJECT, "recorder") as reported,
            process_of("senders", nats_settings, tmp_path, own) as sender,
        ):
            envelope = SendEnvelope(new_id(), APPLICATION, "normal", "apns", "local", items)
            await bus.publish(SEND_SUBJECT, encode(envelope), msg_id=new_id())
            await until(lambda: len(apple.requests) == 2)
            assert await sender.end() < BOUND
            said: list[Outcome] = []
            while len(said) < 2:
                said += (await reported.next(OutcomeEnvelope)).items
        async with tapped(bus, SEND, SEND_SUBJECT, DURABLE) as next_holder:
            left = await asyncio.wait_for(next_holder.next(SendEnvelope), AT_ONCE)
    assert len(apple.requests) == 2
    assert [(item.kind, item.reason) for item in said] == [("errored", "timeout")] * 2
    assert len(left.items) == len(items) - 2
    told = {item.message_id for item in said}
    assert told | {item.message_id for item in left.items} == {item.message_id for item in items}


async def test_a_dispatcher_that_is_not_told_who_the_recipients_are(
    nats_settings: Nats, key_ring_file: Path, tmp_path: Path
) -> None:
    async with harness_on(nats_settings, key_ring_file) as harness:
        harness.subscriptions.gate = asyncio.Event()
        items = [harness.accepted(harness.subscriptions.add()) for _ in range(2)]
        async with process_of(
            "dispatcher", nats_settings, tmp_path, {"KEYS__RING_FILE": str(key_ring_file)}
        ) as dispatcher:
            for item in items:
                await harness.give(item)
            await until(lambda: len(harness.subscriptions.asked) >= 2)
            assert await dispatcher.end() < BOUND
        harness.subscriptions.gate.set()
        assert await _given_back(harness) == {item.message_id for item in items}


async def _given_back(harness: DispatcherHarness) -> set[str]:
    async with asyncio.timeout(AT_ONCE), tapped(harness.bus, DISPATCH, SUBJECT, dispatch.DURABLE) as next_holder:
        return {(await next_holder.next(DispatchEnvelope)).items[0].message_id for _ in range(2)}


@pytest.fixture
def log(database: Database, bus: Bus, key_ring_file: Path) -> LifecycleHarness:
    return LifecycleHarness(bus, KeyRing.load(key_ring_file), database)


async def test_a_lifecycle_whose_transactions_stand_still(
    log: LifecycleHarness, nats_settings: Nats, key_ring_file: Path, tmp_path: Path
) -> None:
    """Who asked is told; the outcomes are recorded by the next."""
    own = {"KEYS__RING_FILE": str(key_ring_file), "DATABASE__URL": log.database.dsn("lifecycle")}
    message = log.message()
    async with (
        single_connection(log.database.admin_dsn) as c,
        process_of("lifecycle", nats_settings, tmp_path, own) as lifecycle,
        c.transaction(),
    ):
        await log.accept(message)
        await c.execute("LOCK TABLE lifecycle.messages IN SHARE MODE")
        request = Accept(OWNER, "single", "key:test", [log.message()])
        asked = asyncio.create_task(log.bus.call("lifecycle", "accept", request, AcceptReply, timeout=BOUND))
        await log.report(Outcome(message.message_id, "sent", 1, "call-1", 0))

        async def held() -> bool:
            return int(await c.fetchval(BLOCKED)) >= 2

        await until(held)
        assert await lifecycle.end() < BOUND
        assert asked.done()
        with pytest.raises(ServiceUnavailable):
            await asked
    stream, subject = stream_of("OUTCOME", "normal"), outcome("normal", "*", "*")
    async with tapped(log.bus, stream, subject, outcomes.DURABLE) as next_holder:
        left = await asyncio.wait_for(next_holder.next(OutcomeEnvelope), AT_ONCE)
    assert [item.message_id for item in left.items] == [message.message_id]


async def test_a_gateway_whose_services_do_not_answer(nats_settings: Nats, tmp_path: Path) -> None:
    """Every request is answered, though not with what was asked for."""
    port = free_port()
    async with (
        connected(nats_settings, "behind") as bus,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        platform = Platform(bus)
        await platform.serve()
        rest = Rest(session, platform, FakeClock())
        async with process_of("ingest", nats_settings, tmp_path, {"HTTP__PORT": str(port)}) as gateway:
            platform.hold.clear()
            body = {"subscription_id": platform.subscribe(), "title": "Hello"}
            asked = [asyncio.create_task(rest.post("/messages", body)) for _ in range(5)]
            await until(lambda: bool(platform.resolves))
            assert await gateway.end() < BOUND
            answers = await asyncio.gather(*asked)
        platform.hold.set()
    said = {(answer.status, answer.headers["Retry-After"], answer.headers["Connection"]) for answer in answers}
    assert said == {(503, "1", "close")}
    assert platform.accepts == []
