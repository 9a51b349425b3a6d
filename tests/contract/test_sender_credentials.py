"""A credential that is missing, refused or not to be had: who waits, and for how long."""

from collections.abc import Iterator

import msgspec
import pytest

from libs.config import Nats
from libs.envelope import Delivery
from libs.rpc import Credential
from services.senders.contract import Result, TryLater
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import (
    CHANNEL,
    SECRET,
    SEND,
    SenderHarness,
    deliveries,
    delivery,
    facts,
    sending,
    until_taken,
)
from tests.contract.streams_harness import (
    APPLICATION,
    connected,
    drained,
    impatient,
)

OTHER = "01990000-0000-7000-8000-00000000000b"


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


async def test_a_refused_credential_pauses_its_application_alone(nats_settings: Nats) -> None:
    refused, *rest = deliveries(4)
    own = SenderSettings(CHANNEL, slots=1, concurrency=1, breaker_seconds=30)
    async with sending(nats_settings, own) as harness:
        harness.peers.credentials[OTHER] = Credential(1, SECRET)
        harness.sender.answers[refused.message_id] = TryLater("InvalidProviderToken", "credentials")
        await harness.give(refused, *rest)
        waiting = await harness.reported(4)
        other = delivery()
        await harness.give(other, application_id=OTHER)
        await harness.reported(1)
        assert harness.sender.calls == [refused.message_id, other.message_id]
        harness.clock.advance(31)
        again = deliveries(3)
        await harness.give(*again)
        found = await harness.reported(3)
    assert [(item.kind, item.reason, item.retry_class) for item in waiting] == [
        ("errored", "InvalidProviderToken", "credentials"),
        *[("held", "breaker", None)] * 3,
    ]
    assert {item.data["breaker_reason"] for item in waiting[1:]} == {"InvalidProviderToken"}
    assert facts(found) == {item.message_id: ("sent", None) for item in again}


async def test_an_application_without_a_credential_waits(nats_settings: Nats) -> None:
    item = delivery()
    async with sending(nats_settings) as harness:
        await harness.give(item, application_id=OTHER)
        (found,) = await harness.reported(1)
    assert (found.kind, found.reason, found.retry_class) == ("errored", "credential_missing", "credentials")
    assert harness.sender.calls == []


async def test_a_credential_is_asked_for_once_and_again_when_it_is_old(nats_settings: Nats) -> None:
    async with sending(nats_settings) as harness:
        asked = harness.peers.credentials_asked
        for _ in range(3):
            await harness.give(delivery())
        await harness.reported(3)
        assert harness.peers.credentials_asked == asked
        harness.clock.advance(31)
        await harness.give(delivery())
        await harness.reported(1)
        assert harness.peers.credentials_asked == asked + 1


async def test_a_refusal_of_a_credential_that_was_replaced_opens_nothing(nats_settings: Nats) -> None:
    """This process had not heard of the new one yet."""
    first, second = deliveries(2)
    async with sending(nats_settings, SenderSettings(CHANNEL, slots=1, concurrency=1)) as harness:

        async def replaced(item: Delivery) -> Result:
            harness.peers.credentials[APPLICATION] = Credential(2, SECRET)
            harness.clock.advance(2)
            return TryLater("InvalidProviderToken", "credentials")

        harness.sender.answers[first.message_id] = replaced
        await harness.give(first)
        await harness.reported(1)
        assert not harness.breakers.holds(APPLICATION)
        await harness.give(second)
        assert facts(await harness.reported(1)) == {second.message_id: ("sent", None)}


async def test_while_a_breaker_doubts_the_credential_it_is_asked_for_anew(nats_settings: Nats) -> None:
    refused, waiting, probe = deliveries(3)
    async with sending(nats_settings, SenderSettings(CHANNEL, slots=1, concurrency=1)) as harness:
        harness.sender.answers[refused.message_id] = TryLater("InvalidProviderToken", "credentials")
        await harness.give(refused, waiting)
        await harness.reported(2)
        harness.peers.credentials[APPLICATION] = Credential(2, SECRET)
        harness.clock.advance(2)
        open_now = harness.breakers._open[APPLICATION]
        now_ms = int(harness.clock.time() * 1000)
        harness.breakers._open[APPLICATION] = msgspec.structs.replace(open_now, probe_at_ms=now_ms)
        used: list[int] = []
        send = harness.sender.send

        async def noting(item: Delivery, credential: Credential, application_id: str) -> Result:
            used.append(credential.version)
            return await send(item, credential, application_id)

        harness.sender.send = noting  # type: ignore[method-assign, assignment]
        await harness.give(probe)
        assert facts(await harness.reported(1)) == {probe.message_id: ("sent", None)}
    assert used == [2]


async def test_a_credential_that_nobody_can_read_holds_up_its_application_alone(nats_settings: Nats) -> None:
    """And its messages wait for another one: they are not what is wrong."""
    items = deliveries(3)
    async with sending(nats_settings) as harness:
        harness.peers.credentials[OTHER] = Credential("?", SECRET)  # type: ignore[arg-type]  # as of another release
        await harness.give(*items, application_id=OTHER)
        found = await harness.reported(3)
        other = delivery()
        await harness.give(other)
        await harness.reported(1)
        await drained(harness.bus, SEND)
    by_kind = sorted((one.kind, one.reason) for one in found)
    assert by_kind == [("errored", "credential_unreadable"), ("held", "breaker"), ("held", "breaker")]
    assert harness.sender.calls == [other.message_id]


async def test_a_known_credential_serves_while_the_application_service_is_away(nats_settings: Nats) -> None:
    async with connected(nats_settings, "sender") as bus, connected(nats_settings, "application") as application:
        harness = SenderHarness(bus, SenderSettings(CHANNEL))
        await harness.peers.serve_application(application)
        first = await harness.credentials.get(APPLICATION)
        await application.close()
        harness.clock.advance(31)
        assert await harness.credentials.get(APPLICATION) == first


async def test_an_unknown_credential_is_waited_for(nats_settings: Nats) -> None:
    async with connected(nats_settings, "sender") as bus, connected(nats_settings, "peers") as peers:
        harness = SenderHarness(bus, SenderSettings(CHANNEL))
        await harness.peers.serve_lifecycle(peers)
        await harness.outcomes.open()
        await harness.start()
        item = delivery()
        await harness.give(item)
        await until_taken(harness, 1)
        await harness.peers.serve_application(peers)
        assert facts(await harness.reported(1)) == {item.message_id: ("sent", None)}
        await harness.stop()
