"""The steps of a restore, on a draft of the new data directory: servers are started for as long as they are needed."""

import asyncio
import contextlib
import importlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from libs.bus import Bus
from libs.errors import SignalError
from libs.migrate import migrate
from libs.rpc import ErasureRecord
from libs.subjects import ERASURES
from services.cli import archive, datadir
from services.cli.archive import Erasures, Manifest
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.forgetting import forget_again
from services.cli.old_streams import (
    CLOCKS,
    Completeness,
    batches,
    completeness,
    is_older,
    last_epoch,
    old_streams,
    read_erasures,
    running,
)
from services.cli.progress import Terminal
from services.cli.stack import Options, Stack


class Restored(msgspec.Struct, frozen=True):
    """What --json prints, and DIR/restored.json keeps."""

    backup: str
    taken_at: datetime
    epoch: int
    history: Completeness
    """What the old event stream could tell of the time since the backup."""
    learned: int
    missing: int
    unknown: int
    waiting: int
    erasures_until: datetime | None
    """Persons erased until then are erased again; None: of those erased since the backup nothing is known."""
    erasures_known: int
    erasures: int


class Wanted(msgspec.Struct, frozen=True):
    """What `automata restore` was asked for."""

    old: DataDir | None = None
    """Stopped, and locked by the caller."""
    erasures: Erasures | None = None
    keep_waiting: bool | None = None
    """None: if the old event stream tells all."""
    epoch: int = 0


class Restoring:
    def __init__(self, backup: Path, manifest: Manifest, target: DataDir, terminal: Terminal) -> None:
        self._backup = backup
        self._manifest = manifest
        self.target = target
        self._terminal = terminal
        self._draft = DataDir(target.path.with_name(f".{target.path.name}.unfinished"))

    async def run(self, wanted: Wanted) -> Restored:
        """The new directory appears whole, or not at all. Raises `Failure`."""
        await asyncio.to_thread(archive.remove, self._draft.path)
        try:
            await asyncio.to_thread(self._unpack)
            restored = await self._prepare(wanted)
            await asyncio.to_thread(self._appear, restored, wanted.old)
        except OSError as error:
            hint = "check free space and permissions"
            raise Failure(f"{self.target.path} cannot be made: {error.strerror or error}", hint) from None
        except SignalError as error:
            raise Failure(f"the restore was given up: {error}", "try again; nothing was left behind") from None
        finally:
            self._terminal.ready()
            await asyncio.to_thread(archive.remove, self._draft.path)
        return restored

    def _unpack(self) -> None:
        with self._step("check the backup"):
            archive.check_postgres(self._backup)
        with self._step("unpack"):
            self._draft.create()
            archive.copy_secrets(self._backup / "secrets", self._draft.secrets)
            archive.unpack_postgres(self._backup, self._draft)

    def _appear(self, restored: Restored, old: DataDir | None) -> None:
        """At no moment could both start: whoever marked the old one and came no further begins the restore anew."""
        datadir.write(self._draft.path / "restored.json", restored)
        marked = old is not None and old.superseded_file.exists()  # by an earlier restore
        if old is not None:
            datadir.write(old.superseded_file, str(self.target.path))
        try:
            self._draft.path.replace(self.target.path)
        except OSError:
            if old is not None and not marked:
                old.superseded_file.unlink()
            raise

    async def _prepare(self, wanted: Wanted) -> Restored:
        stack = Stack(self._draft, Options())
        await asyncio.to_thread(stack.prepare)
        async with contextlib.AsyncExitStack() as life:
            with self._step("database"):
                await life.enter_async_context(running(self._draft, [stack.servers()[0]]))
                await migrate(stack.postgres_dsn, stack.passwords.roles)
            old = None if wanted.old is None else await life.enter_async_context(old_streams(wanted.old))
            history = await completeness(old, self._manifest)
            with self._step("messages"):
                settled = await self._settle(stack, old, history, wanted)
            with self._step("erasures"):
                records, until = await self._known_erasures(old, wanted.erasures)
                applied = await forget_again(self._draft, stack, records)
        return Restored(
            backup=str(self._backup),
            taken_at=self._manifest.taken_at,
            epoch=settled.epoch,
            history=history,
            learned=settled.learned,
            missing=settled.missing,
            unknown=settled.unknown,
            waiting=settled.waiting,
            erasures_until=until,
            erasures_known=len(records),
            erasures=applied,
        )

    async def _settle(self, stack: Stack, old: Bus | None, history: Completeness, wanted: Wanted) -> Any:
        # Services do not import each other; lifecycle owns the log, and this command is a door to it.
        lifecycle = importlib.import_module("services.lifecycle.restore")
        at = self._manifest.readers_at
        return await lifecycle.settle(
            stack.postgres_dsn,
            self._manifest.taken_at,
            epoch=max(wanted.epoch, await last_epoch(wanted.old, old)),
            readers_at=None if at is None else (at.epoch, at.txid, at.position),
            history=None if old is None else batches(old, self._manifest.started_at - CLOCKS),
            keep_waiting=history == "whole" if wanted.keep_waiting is None else wanted.keep_waiting,
        )

    async def _known_erasures(
        self, old: Bus | None, given: Erasures | None
    ) -> tuple[list[ErasureRecord], datetime | None]:
        """Records of both sources, and until when they tell of all that there were."""
        known = {record.request_id: record for record in given.records} if given is not None else {}
        until = given.taken_at if given is not None and given.taken_at >= self._manifest.taken_at else None
        if old is not None:
            known |= {record.request_id: record for record in await read_erasures(old)}
            if await is_older(old, ERASURES, self._manifest.started_at):
                until = datetime.now(UTC)
        return list(known.values()), until

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._terminal.begin(name)
        yield
        self._terminal.done(name)
