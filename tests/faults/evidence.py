"""Gathers the three ledgers from a running system: the sandbox's, the log (by read-only SQL), and EVENTS."""

import asyncio
from typing import Any

import aiohttp
import asyncpg
import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client as Nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from libs.subjects import EVENTS, events
from tests.faults.ledger import Call, Client, Evidence, Fact, Place, Published, Rebuild, Row
from tests.faults.system import System, until

PUBLISH_SECONDS = 20.0
"""How long the relay may take to bring the last facts to EVENTS."""

FACTS = """
SELECT message_id::text, kind, attempt, key, (extract(epoch FROM occurred_at) * 1000000)::bigint AS occurred_at_us,
       epoch, txid::text::bigint AS txid, position, reason, data ->> 'outcome' AS outcome
FROM lifecycle.message_events
ORDER BY epoch, message_events.txid, position
"""

ROWS = """
SELECT id::text, subscription_id::text, channel, status, attempt, reason,
       (extract(epoch FROM sent_at) * 1000000)::bigint AS sent_at_us,
       (extract(epoch FROM received_at) * 1000000)::bigint AS received_at_us,
       (extract(epoch FROM converted_at) * 1000000)::bigint AS converted_at_us,
       (extract(epoch FROM failed_at) * 1000000)::bigint AS failed_at_us,
       (extract(epoch FROM cancelled_at) * 1000000)::bigint AS cancelled_at_us
FROM lifecycle.messages
"""

LEFT = """
SELECT (SELECT count(*) FROM lifecycle.messages WHERE status IN ('pending', 'errored')) AS unfinished,
       (SELECT count(*) FROM lifecycle.handoffs) AS handoffs,
       (SELECT count(*) FROM lifecycle.due) AS due
"""

CREATED = """
SELECT id::text, extract(epoch FROM created_at)::float8 AS seconds FROM lifecycle.messages WHERE id = any($1::uuid[])
"""

CURSOR = "SELECT epoch, txid::text::bigint AS txid, position FROM lifecycle.cursors ORDER BY 1 DESC, 2 DESC, 3 DESC"


class Left(msgspec.Struct, frozen=True):
    """What is still to do."""

    unfinished: int
    handoffs: int
    due: int


async def left(system: System) -> Left:
    [row] = await system.fetch(LEFT)
    return Left(row["unfinished"], row["handoffs"], row["due"])


async def cursor(system: System) -> Place | None:
    """The furthest place in the log that a reader has noted as passed; None before the first."""
    rows = await system.fetch(CURSOR)
    return (rows[0]["epoch"], rows[0]["txid"], rows[0]["position"]) if rows else None


async def gather(system: System, client: Client, *, published_after: Place | None) -> Evidence:
    """Join the ledgers, once the system has settled. Waits for the relay to have published the last fact."""
    log = [_fact(row) for row in await system.fetch(FACTS)]
    rows = [_row(row) for row in await system.fetch(ROWS)]
    published = await _published(system, [f for f in log if published_after is None or f.place > published_after])
    rest = await left(system)
    return Evidence(
        client=client,
        calls=await complete_calls(system),
        log=log,
        rows={row.id: row for row in rows},
        published=published,
        rebuild=await rebuild(system),
        open_handoffs=rest.handoffs,
        due=rest.due,
    )


async def calls(system: System) -> list[Call]:
    """The sandbox's ledger, as far as it has got."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
        session.get(f"{system.runtime.sandbox_url}/v1/ledger", ssl=False) as response,
    ):
        response.raise_for_status()
        return msgspec.json.Decoder(Call).decode_lines(await response.read())


async def complete_calls(system: System) -> list[Call]:
    """The same after everything settled. Raises `AssertionError` where lines are missing: nothing can be concluded."""
    found = await calls(system)
    counted = await sandbox_count(system, "accepted")
    assert sum(call.accepted for call in found) == counted, "the sandbox's ledger is incomplete"
    return found


async def sandbox_count(system: System, what: str) -> int:
    """`requests`, `accepted` or `accepted_more_than_once` of the sandbox's counters."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        session.get(f"{system.runtime.sandbox_url}/v1/stats", ssl=False) as response,
    ):
        stats = await response.json()
    return sum(int(stats[provider][what]) for provider in ("apns", "fcm"))


REBUILD_SECONDS = 1_800.0
"""Of the millions that a soak leaves; tens of thousands take a second."""


async def rebuild(system: System) -> Rebuild:
    output = await asyncio.to_thread(system.cli, "projections", "rebuild", timeout=REBUILD_SECONDS)
    printed = dict(line.rsplit(maxsplit=1) for line in output.splitlines())
    return Rebuild(int(printed["messages"]), printed["checksum before"], printed["checksum after"])


async def put_faults(system: System, rules: list[dict[str, Any]]) -> None:
    """Tell the sandbox how to fail; an empty list ends all faults."""
    url = f"{system.runtime.sandbox_url}/v1/faults"
    async with aiohttp.ClientSession() as session:
        request = session.put(url, json=rules, ssl=False) if rules else session.delete(url, ssl=False)
        async with request as response:
            response.raise_for_status()


async def connect_nats(system: System) -> Nats:
    """A connection that gives up instead of waiting for ever. The caller closes it."""
    return await nats.connect(system.runtime.nats_url.split(","), connect_timeout=5, max_reconnect_attempts=3)


async def _published(system: System, wanted: list[Fact]) -> list[Published]:
    """EVENTS from its start; again and again until `wanted` is covered or time is up."""
    names = {fact.identity for fact in wanted}
    found: list[Published] = []

    async def covered() -> bool:
        nonlocal found
        found = await read_events(system)
        return names <= {each.identity for each in found}

    try:
        await until(covered, "every fact is on EVENTS", PUBLISH_SECONDS, every=0.5)
    except TimeoutError:
        return found  # the checker says which facts are missing
    return found


class _Batch(msgspec.Struct, frozen=True):
    events: list[Published]


async def read_events(system: System) -> list[Published]:
    """All of EVENTS, in stream order."""
    client = await connect_nats(system)
    try:
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, inactive_threshold=30)
        subject = events(system.runtime.application_id)
        subscription = await client.jetstream().pull_subscribe(subject, stream=EVENTS, config=config)
        return await _drain(subscription)
    except (nats.errors.Error, nats.js.errors.Error) as error:
        raise OSError(f"EVENTS cannot be read: {error!r}") from error
    finally:
        await client.close()


async def _drain(subscription: Any) -> list[Published]:
    found: list[Published] = []
    waiting = (await subscription.consumer_info()).num_pending or 0
    decoder = msgspec.json.Decoder(_Batch, strict=False)  # txid is a string: JSON numbers lose precision
    while waiting > 0:
        messages = await subscription.fetch(min(waiting, 200), timeout=2)
        for message in messages:
            found.extend(decoder.decode(message.data).events)
        waiting = messages[-1].metadata.num_pending
    return found


def _fact(row: asyncpg.Record) -> Fact:
    return Fact(**dict(row))


def _row(row: asyncpg.Record) -> Row:
    return Row(**dict(row))
