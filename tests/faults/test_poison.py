"""Bytes that are no envelope, and envelopes of messages that do not exist: set aside with a reason, siblings flow."""

import secrets
import time
import uuid
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from nats.aio.client import Client as Nats

from libs.envelope import (
    Accepted,
    Content,
    Delivery,
    DispatchEnvelope,
    Envelope,
    Lane,
    Outcome,
    OutcomeEnvelope,
    SendEnvelope,
    encode,
)
from libs.ids import new_id
from libs.subjects import DEAD, dead, stream_of
from tests.faults.evidence import connect_nats
from tests.faults.story import Story
from tests.faults.system import until

pytestmark = pytest.mark.faults

Kind = Literal["DISPATCH", "SEND", "OUTCOME"]
KINDS: tuple[Kind, ...] = ("DISPATCH", "SEND", "OUTCOME")
CHANNEL = "apns"
GARBAGE = b"\xc1 no msgpack begins so"
BUSIEST = "SELECT lane FROM lifecycle.messages GROUP BY lane ORDER BY count(*) DESC LIMIT 1"
EVENTS_OF = "SELECT kind FROM lifecycle.message_events WHERE message_id = $1::uuid"


@pytest.fixture
async def client(story: Story) -> AsyncIterator[Nats]:
    connected = await connect_nats(story.system)
    yield connected
    await connected.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_garbage_ends_in_dead_and_siblings_flow(story: Story, client: Nats, kind: Kind) -> None:
    before = await dead_letters(client)
    async with story.flow() as flow:
        await flow.reached(0.3)
        stream = stream_of(kind, await busiest_lane(story))
        await client.jetstream().publish(await subject_of(client, stream), GARBAGE)

    async def buried() -> bool:
        return await dead_letters(client) > before

    await until(buried, f"what poisoned {stream} is in DEAD", 60)
    last = await client.jetstream().get_last_msg(DEAD, dead(stream))
    assert last.data is not None
    assert GARBAGE not in last.data, "DEAD holds no content"
    await until(lambda: drained(client, stream), f"{stream} is empty", 30)
    report = await story.check(f"poison-{kind.lower()}")
    assert report.repeats == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_does_not_exist_spoils_nothing(story: Story, client: Nats, kind: Kind) -> None:
    """It is counted as unknown, or buried; the log never learns of it (R4)."""
    stranger = new_id()
    story.foreign.add(stranger)
    before = await noticed(story, client)
    async with story.flow() as flow:
        await flow.reached(0.3)
        lane = await busiest_lane(story)
        stream = stream_of(kind, lane)
        payload = encode(envelope_of(kind, story.system.runtime.application_id, lane, stranger))
        await client.jetstream().publish(await subject_of(client, stream), payload)

    async def seen() -> bool:
        return await noticed(story, client) > before

    await until(seen, f"the stranger on {stream} is counted", 60)
    await until(lambda: drained(client, stream), f"{stream} is empty", 30)
    report = await story.check(f"stranger-{kind.lower()}")
    assert report.repeats == 0
    assert await story.system.fetch(EVENTS_OF, stranger) == []


def envelope_of(kind: Kind, application_id: str, lane: Lane, stranger: str) -> Envelope:
    now = int(time.time() * 1000)
    deadline, nobody, handoff = now + 3_600_000, str(uuid.uuid4()), new_id()
    if kind == "DISPATCH":
        accepted = Accepted(stranger, nobody, 1, secrets.token_bytes(64), deadline)
        return DispatchEnvelope(handoff, application_id, lane, [accepted])
    if kind == "SEND":
        content = Content(title="nobody's")
        delivery = Delivery(stranger, nobody, 1, f"fa{secrets.token_hex(31)}", 1, now, False, deadline, content)
        return SendEnvelope(handoff, application_id, lane, CHANNEL, "default", [delivery])
    return OutcomeEnvelope(application_id, lane, [Outcome(stranger, "sent", 1, new_id(), now)])


async def busiest_lane(story: Story) -> Lane:
    [row] = await story.system.fetch(BUSIEST)
    lane: Lane = row["lane"]
    return lane


async def subject_of(client: Nats, stream: str) -> str:
    """A subject that somebody consumes: of the consumers' filters one for `CHANNEL`, or what the stream takes."""
    infos = await client.jetstream().consumers_info(stream)
    filters = [info.config.filter_subject or "" for info in infos]
    ours = [subject for subject in filters if f".{CHANNEL}." in subject]
    subject = (ours or (await client.jetstream().stream_info(stream)).config.subjects or [""])[0]
    return subject.replace("*", CHANNEL, 1).replace("*", "default", 1)


async def dead_letters(client: Nats) -> int:
    return (await client.jetstream().stream_info(DEAD)).state.messages


async def drained(client: Nats, stream: str) -> bool:
    return (await client.jetstream().stream_info(stream)).state.messages == 0


async def noticed(story: Story, client: Nats) -> float:
    unknown = await story.system.metric("lifecycle", "automata_unknown_messages_total")
    return unknown + await dead_letters(client)
