"""The key ring is rotated with the system running: nothing becomes unreadable, nobody is overtaken, nothing is lost."""

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import services.dispatcher.__main__ as dispatcher
from libs import config, rpc
from libs.bus import Bus
from libs.envelope import SendEnvelope, decode
from libs.errors import ValidationFailed
from libs.ids import new_id
from libs.pg import Connection, Pool, connect_pool, single_connection
from libs.ring import follow, holders
from libs.seal import KeyRing, ring_key_of
from libs.subjects import stream_of
from services.cli import rotation
from services.cli.failure import Failure
from services.dispatcher.settings import Settings
from services.ingest.settings import GatewayHttp
from services.subscription import queries_keys
from services.subscription.rewrap import Rewrapper
from tests.contract.whole_fixtures import platform
from tests.contract.whole_platform import Tenant
from tests.databases import Database
from tests.in_process import running
from tests.waiting import until

WAIT = 10.0
APNS_TOKEN = "{:064x}"


def unseen(part: str, rows: int, total: int) -> None:
    """Nobody watches the progress."""


async def rotate(bus: Bus, path: Path, wait: float = WAIT) -> rotation.Rotated:
    return await rotation.rotate(bus, path, rotation.at_least_one(), wait, unseen, lambda _: None)


async def retire(bus: Bus, path: Path, name: str, settle: float = 0) -> None:
    await rotation.retire(bus, path, name, rotation.at_least_one(), unseen, settle)


# the whole platform ---------------------------------------------------------------------------------------------------


class Traffic:
    """Somebody who registers and sends all the time."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.sent: dict[str, str] = {}
        """Message id to title."""
        self.tokens: dict[str, str] = {}
        """Subscription id to token."""
        self.refused: list[Any] = []
        self.stopping = asyncio.Event()
        self.numbers = itertools.count()

    async def run(self) -> None:
        while not self.stopping.is_set():
            await self.once()

    async def once(self) -> None:
        number = next(self.numbers)
        body: dict[str, Any] = {"type": "iOSPush", "token": APNS_TOKEN.format(number + 1)}
        registered = await self.tenant.post("/subscriptions", body)
        if registered.status != 201:
            self.refused.append(registered)
            return
        subscription_id = registered.data["subscription_id"]
        self.tokens[subscription_id] = body["token"]
        if number % 3 == 0:
            identified = await self.tenant.post(
                "/users/identify", {"external_id": f"person-{number}", "subscriptions": [subscription_id]}
            )
            self.refused += [identified] if identified.status != 200 else []
        await self.send(subscription_id, f"Title {number}")

    async def send(self, subscription_id: str, title: str) -> None:
        sent = await self.tenant.post("/messages", {"subscription_id": subscription_id, "title": title})
        if sent.status != 201:
            self.refused.append(sent)
            return
        self.sent[sent.data["message_id"]] = title

    async def read_all(self) -> dict[str, str]:
        found = {}
        for message_id in self.sent:
            answer = await self.tenant.get(f"/messages/{message_id}")
            found[message_id] = answer.data.get("title")
        return found


@contextlib.asynccontextmanager
async def everything(database: Database, ring_file: Path, nats: config.Nats, bus: Bus) -> AsyncIterator[Traffic]:
    settings = Settings(config.Keys(str(ring_file)), nats)
    async with (
        platform(database, ring_file, nats, bus, GatewayHttp()) as whole,
        running("dispatcher", dispatcher.start, settings),
    ):
        yield Traffic(await whole.tenant())


async def deliveries(bus: Bus) -> dict[str, str]:
    """Message id to the token that SEND says it goes to."""
    found: dict[str, str] = {}
    stream = stream_of("SEND", "normal")
    state = (await bus.stream_state(stream)).state
    for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
        envelope = decode((await bus.js.get_msg(stream, sequence)).data or b"", SendEnvelope)
        found |= {item.message_id: item.token for item in envelope.items}
    return found


async def sealed_in_the_log(database: Database, ids: list[str]) -> list[tuple[Any, ...]]:
    query = "SELECT message_id, sealed FROM lifecycle.message_events WHERE message_id = ANY ($1::uuid[]) ORDER BY 1, 2"
    async with single_connection(database.admin_dsn) as c:
        return [tuple(row) for row in await c.fetch(query, ids) if row["sealed"] is not None]


async def test_all_stays_readable_while_the_ring_is_rotated_under_traffic_and_the_old_key_removed(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    async with everything(database, key_ring_file, nats_settings, bus) as traffic:
        for _ in range(12):
            await traffic.once()
        before = await sealed_in_the_log(database, list(traffic.sent))
        running_traffic = [asyncio.create_task(traffic.run()) for _ in range(3)]
        rotated = await rotate(bus, key_ring_file)
        traffic.stopping.set()
        await asyncio.gather(*running_traffic)
        assert traffic.refused == []
        assert (rotated.active, rotated.unreadable) == ("k2", 0)
        assert rotated.rewrapped >= 12
        await retire(bus, key_ring_file, "k1")
        assert list(rotation.read_ring(key_ring_file).keys) == ["k2"]
        assert await traffic.read_all() == traffic.sent
        await traffic.once()
        assert traffic.refused == []
    tenant = traffic.tenant
    async with everything(database, key_ring_file, nats_settings, bus) as again:
        again.tenant = Tenant(again.tenant.session, tenant.application_id, tenant.api_key)
        again.sent, again.tokens = traffic.sent, traffic.tokens
        assert await again.read_all() == traffic.sent
        for number, subscription_id in enumerate(list(traffic.tokens)[:6]):
            await again.send(subscription_id, f"To an old subscription {number}")
        assert again.refused == []
        sent = list(again.sent)[-6:]

        async def all_are_routed() -> bool:
            return set(sent) <= set(await deliveries(bus))

        await until(all_are_routed, "the dispatcher opened them")
        found = await deliveries(bus)
        assert [found[message_id] for message_id in sent] == list(traffic.tokens.values())[:6]
    assert await sealed_in_the_log(database, [str(row[0]) for row in before]) == before


# one process after the other ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def holding(bus: Bus, ring_file: Path, *services: str) -> AsyncIterator[dict[str, KeyRing]]:
    """Processes that hold the ring and do nothing else."""
    rings = {service: KeyRing.load(ring_file) for service in services}
    tasks = [asyncio.create_task(follow(ring, bus, service)) for service, ring in rings.items()]
    try:
        await until(lambda: _answer(bus, set(services)), "all answer")
        yield rings
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(bus: Bus, services: set[str]) -> bool:
    return services <= {report.service for report in await holders(bus, 0.1)}


@pytest.fixture
def another_copy(tmp_path: Path, key_ring_file: Path) -> Path:
    """A ring file that is not changed with the first: a mounted secret on another machine."""
    path = tmp_path / "copy.json"
    path.write_bytes(key_ring_file.read_bytes())
    return path


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    """In place, as no command of ours does."""
    path.write_bytes(content)


OTHERS = ("application", "lifecycle", "dispatcher")


async def test_no_key_becomes_active_before_every_process_knows_it(
    bus: Bus, key_ring_file: Path, another_copy: Path
) -> None:
    async with holding(bus, key_ring_file, *OTHERS), holding(bus, another_copy, "subscription"):
        with pytest.raises(Failure, match="subscription"):
            await rotate(bus, key_ring_file, 0.5)
        ring = rotation.read_ring(key_ring_file)
        assert (ring.active, list(ring.keys)) == ("k1", ["k1", "k2"])
        shutil.copyfile(key_ring_file, another_copy)
        assert rotation.add_key(key_ring_file) == "k2"  # given again, it goes on with the key that waits
        reports = await rotation.agreed(bus, rotation.at_least_one(), "knows k2", lambda r: "k2" in r.keys, WAIT)
        assert {report.service for report in reports} == {*OTHERS, "subscription"}


async def test_a_service_that_does_not_answer_is_named(bus: Bus, key_ring_file: Path) -> None:
    async with holding(bus, key_ring_file, *OTHERS):
        with pytest.raises(Failure, match="subscription"):
            await rotate(bus, key_ring_file, 0.3)
    assert rotation.read_ring(key_ring_file).active == "k1"


async def test_two_processes_of_a_service_must_both_agree_where_two_are_expected(bus: Bus, key_ring_file: Path) -> None:
    expected = {**rotation.at_least_one(), "dispatcher": 2}
    async with holding(bus, key_ring_file, *OTHERS, "subscription"):
        with pytest.raises(Failure, match="dispatcher"):
            await rotation.agreed(bus, expected, "answers", lambda _: True, 0.3)


async def test_a_file_that_is_half_written_changes_nothing_for_those_who_run(bus: Bus, key_ring_file: Path) -> None:
    whole = read(key_ring_file)
    async with holding(bus, key_ring_file, "dispatcher") as rings:
        key, wrapped = rings["dispatcher"].new_key()
        write(key_ring_file, whole[: len(whole) // 2])
        (report,) = await holders(bus, 0.2)
        assert (report.active, report.keys) == ("k1", ["k1"])
        assert rings["dispatcher"].unwrap(key.key_id, wrapped).key_id == key.key_id
        write(key_ring_file, whole)
        rotation.add_key(key_ring_file)
        (report,) = await holders(bus, 0.2)
        assert report.keys == ["k1", "k2"]


async def test_a_key_in_use_cannot_be_retired(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    async with everything(database, key_ring_file, nats_settings, bus) as traffic:
        await traffic.once()  # a person: their key, the one of the time before, and the token's fresh one
        with pytest.raises(Failure, match="active"):
            await retire(bus, key_ring_file, "k1")
        with pytest.raises(Failure, match="no key k9"):
            await retire(bus, key_ring_file, "k9")
        rotation.make_active(key_ring_file, rotation.add_key(key_ring_file))
        with pytest.raises(Failure, match="was changed"):
            await retire(bus, key_ring_file, "k1", settle=60)
        with pytest.raises(Failure, match="still wraps 3 data keys"):
            await retire(bus, key_ring_file, "k1")
        assert await traffic.read_all() == traffic.sent
        rotated = await rotation.rewrap_all(bus, "k2", unseen)
        assert (rotated.rewrapped, rotated.passes) == (3, 2)
        await retire(bus, key_ring_file, "k1")
        assert await traffic.read_all() == traffic.sent


# pages ----------------------------------------------------------------------------------------------------------------


class Keys:
    """Data keys in a database, wrapped with the first key of a ring whose second one is active."""

    def __init__(self, pool: Pool, ring: KeyRing, ids: list[str]) -> None:
        self.pool = pool
        self.ring = ring
        self.ids = ids
        self.rewrapper = Rewrapper(pool, ring)

    async def page(self, after: str = "", limit: int = 2_000, *, change: bool = True) -> rpc.Rewrapped:
        return await self.rewrapper.rewrap(rpc.RewrapDataKeys("data_keys", after, limit, change))

    async def wrapped(self) -> dict[str, bytes]:
        async with self.pool.connection() as c:
            return {row.id: row.wrapped for row in await _all(c)}


async def _all(c: Connection) -> list[queries_keys.WrappedKey]:
    return await queries_keys.page(c, "data_keys", "00000000-0000-0000-0000-000000000000", 10_000)


@pytest.fixture
async def keys(database: Database, key_ring_file: Path) -> AsyncIterator[Keys]:
    ring = KeyRing.load(key_ring_file)
    ids = sorted(new_id() for _ in range(25))
    pool = await connect_pool(config.Database(database.dsn("subscription"), pool=2))
    async with single_connection(database.admin_dsn) as c:
        for each in ids:
            await c.execute(
                "INSERT INTO subscription.data_keys (id, application_id, wrapped) VALUES ($1, $2, $3)",
                each,
                new_id(),
                ring.new_key(bytes.fromhex(each.replace("-", "")))[1],
            )
    rotation.make_active(key_ring_file, rotation.add_key(key_ring_file))
    ring.refresh()
    yield Keys(pool, ring, ids)
    await pool.close()


async def test_pages_follow_each_other_and_can_be_done_again(keys: Keys) -> None:
    first = await keys.page(limit=10)
    assert (first.wraps, first.rewrapped, first.next_after) == ({"k1": 10}, 10, keys.ids[9])
    again = await keys.page(limit=10)
    assert (again.wraps, again.rewrapped) == ({"k2": 10}, 0)
    second = await keys.page(keys.ids[9], 10)
    last = await keys.page(keys.ids[19], 10)
    assert (second.rewrapped, last.rewrapped, last.next_after) == (10, 5, None)
    for key_id, wrapped in (await keys.wrapped()).items():
        assert ring_key_of(wrapped) == "k2"
        keys.ring.unwrap(bytes.fromhex(key_id.replace("-", "")), wrapped)


async def test_counting_changes_nothing(keys: Keys) -> None:
    before = await keys.wrapped()
    counted = await keys.page(change=False)
    assert (counted.wraps, counted.rewrapped) == ({"k1": 25}, 0)
    assert await keys.wrapped() == before


async def test_a_key_that_was_changed_or_erased_since_it_was_read_stays_so(keys: Keys, database: Database) -> None:
    async with keys.pool.connection() as c:
        rows = await _all(c)
    changed, erased = keys.ids[3], keys.ids[4]
    async with single_connection(database.admin_dsn) as c:
        await c.execute("UPDATE subscription.data_keys SET wrapped = 'something newer' WHERE id = $1", changed)
        await c.execute("DELETE FROM subscription.data_keys WHERE id = $1", erased)
    renewed = [(row.id, row.wrapped, keys.ring.rewrap(row.key_id, row.wrapped)) for row in rows]
    async with keys.pool.connection() as c:
        assert await queries_keys.rewrap(c, "data_keys", renewed) == len(rows) - 2
    found = await keys.wrapped()
    assert found[changed] == b"something newer"
    assert erased not in found


async def test_a_key_that_is_being_erased_is_waited_for_and_not_brought_back(keys: Keys, database: Database) -> None:
    erased = keys.ids[0]
    async with single_connection(database.admin_dsn) as c:
        async with c.transaction():
            await c.execute("DELETE FROM subscription.data_keys WHERE id = $1", erased)
            page = asyncio.create_task(keys.page())
            await until(lambda: _somebody_waits(database), "the page waits for the erasure")
        assert (await page).rewrapped == 24
    assert erased not in await keys.wrapped()


async def _somebody_waits(database: Database) -> bool:
    async with single_connection(database.admin_dsn) as c:
        return bool(await c.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_what_no_key_opens_is_counted_and_left(keys: Keys, database: Database) -> None:
    async with single_connection(database.admin_dsn) as c:
        await c.execute("UPDATE subscription.data_keys SET wrapped = wrapped || 'x' WHERE id = $1", keys.ids[0])
        other = "UPDATE subscription.data_keys SET wrapped = overlay(wrapped PLACING 'k7' FROM 1) WHERE id = $1"
        await c.execute(other, keys.ids[1])
    page = await keys.page()
    assert (page.rewrapped, page.unreadable) == (23, 2)
    assert page.wraps == {"k1": 24, "k7": 1}


@pytest.mark.parametrize(("after", "limit"), [("", 0), ("", 10_001), ("x", 10), ("' OR true", 10)])
async def test_a_page_that_makes_no_sense_is_refused(keys: Keys, after: str, limit: int) -> None:
    with pytest.raises(ValidationFailed):
        await keys.page(after, limit)
