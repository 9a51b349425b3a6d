"""What the streams of a stopped installation still tell, and the servers that a restore runs for a while."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.config import Nats
from libs.errors import ResourceNotFound
from libs.events import EventBatch, UndecodableBatch, decode_batch
from libs.rpc import ErasureRecord
from libs.subjects import ERASURES, EVENTS, STREAMS, erasures, events
from libs.subscribe import last_stored, stored
from services.cli import datadir, nats_server, ports, vault
from services.cli.archive import Manifest
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.process import Spec
from services.cli.supervisor import Supervisor

Completeness = Literal["none", "part", "whole"]
CLOCKS = timedelta(minutes=1)
"""By which the clocks of Postgres and NATS may differ."""
_READY_SECONDS = 60.0
_log = telemetry.logger("restore")


class Epoch(msgspec.Struct):
    """Of DIR/restored.json, what matters here."""

    epoch: int = 0


@contextlib.asynccontextmanager
async def running(data: DataDir, groups: Sequence[Sequence[Spec]]) -> AsyncIterator[None]:
    """Groups of processes, started one after the other, stopped the other way round. Raises `Failure`."""
    supervisor = Supervisor(data.logs, lambda: None, lambda _: None)
    try:
        for group in groups:
            await supervisor.until_ready(supervisor.start(group), _READY_SECONDS, lambda _: None)
        yield
    finally:
        await supervisor.stop()


def passwords_of(old: DataDir) -> vault.Passwords:
    """Raises `Failure` for what is no installation, or has lost its streams."""
    secrets = datadir.read(old.secrets / "passwords.json", vault.Passwords)
    if secrets is None or not (old.nats / "store").is_dir():
        raise Failure(
            f"{old.path} holds no streams", "name the directory of the lost installation, or leave --from out"
        )
    return secrets


@contextlib.asynccontextmanager
async def old_streams(old: DataDir) -> AsyncIterator[Bus]:
    """A connection to the NATS server of a stopped installation, which runs for as long. Raises `Failure`."""
    secrets = passwords_of(old)
    chosen = ports.choose(["nats", "nats-monitor"], None, {})
    spec = nats_server.spec(old, chosen["nats"], chosen["nats-monitor"], secrets)
    async with running(old, [[spec]]):
        bus = await Bus.connect(Nats(url=vault.nats_url(chosen["nats"], secrets.nats)), "restore")
        try:
            yield bus
        finally:
            await bus.close()


async def is_older(old: Bus, stream: str, moment: datetime) -> bool:
    """Whether the stream was there at `moment`: else it cannot tell of all that happened since."""
    try:
        created = (await old.stream_state(stream)).created
    except ResourceNotFound:
        return False
    return created is not None and created <= moment


async def completeness(old: Bus | None, manifest: Manifest) -> Completeness:
    """Whether EVENTS, which forgets after some days and may have been lost, reaches back to the backup."""
    if old is None:
        return "none"
    (stream,) = [stream for stream in STREAMS if stream.name == EVENTS]
    forgets_before = datetime.now(UTC) - timedelta(seconds=stream.max_age or 0)
    whole = manifest.started_at > forgets_before and await is_older(old, EVENTS, manifest.started_at)
    return "whole" if whole and await _has_all_since(old, manifest.started_at) else "part"


async def _has_all_since(old: Bus, moment: datetime) -> bool:
    """Whether EVENTS, which drops the oldest where it would grow beyond its bound too, still holds what came before."""
    state = (await old.stream_state(EVENTS)).state
    if state.first_seq <= 1 or state.messages == 0:
        return True
    oldest = (await old.js.get_msg(EVENTS, state.first_seq)).time
    return oldest is not None and oldest <= moment


async def read_erasures(old: Bus) -> list[ErasureRecord]:
    """All of the stream ERASURES, once each. Raises `ServiceUnavailable`."""
    found: dict[str, ErasureRecord] = {}
    with contextlib.suppress(ResourceNotFound):
        async for message in stored(old, ERASURES, erasures("*")):
            record = msgspec.msgpack.decode(message.data, type=ErasureRecord)
            found[record.request_id] = record
    return list(found.values())


async def last_epoch(data: DataDir | None, old: Bus | None) -> int:
    """The epoch that the old installation was in; 0 where it does not say."""
    if data is None or old is None:
        return 0
    found = datadir.read(data.path / "restored.json", Epoch) or Epoch()
    try:
        newest = await last_stored(old, EVENTS)
        return max(found.epoch, decode_batch(newest).events[-1].epoch if newest else 0)
    except (ResourceNotFound, UndecodableBatch):
        return found.epoch


async def batches(old: Bus, since: datetime) -> AsyncIterator[EventBatch]:
    """All of EVENTS since then, in its order. What is no batch of ours is told of, and passed over."""
    with contextlib.suppress(ResourceNotFound):
        async for message in stored(old, EVENTS, events("*"), since):
            try:
                yield decode_batch(message.data)
            except UndecodableBatch:
                _log.warning("undecodable_events", sequence=message.metadata.sequence.stream)
