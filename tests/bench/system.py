"""The system under test: `automata up --detach` in a directory of its own, or one that already runs."""

import asyncio
import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from services.cli import control
from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure
from tests.bench import generator

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

UP_SECONDS = 300
CONTROL_SECONDS = 60
PREFIX = "/api/v1"
ENDED = frozenset({"sent", "failed", "expired", "superseded", "cancelled", "bounced"})
"""Event kinds after which nothing more is done for a message."""

_APPENDED = re.compile(rb'^automata_events_appended_total\{[^}]*kind="(\w+)"[^}]*\} (\S+)$', re.MULTILINE)

_COUNT_BY_STATUS = """
SELECT status, count(*) AS messages FROM lifecycle.messages
WHERE id >= lifecycle.first_id_at(to_timestamp($1)) AND application_id = $2 GROUP BY status
"""
_COUNT_BY_KIND = """
SELECT kind, count(DISTINCT message_id) AS messages FROM lifecycle.message_events
WHERE message_id >= lifecycle.first_id_at(to_timestamp($1)) AND application_id = $2 GROUP BY kind
"""


class ProviderTally(msgspec.Struct, frozen=True):
    """Of the sandbox's `/v1/stats`."""

    accepted: int
    accepted_more_than_once: int


class SandboxStats(msgspec.Struct, frozen=True):
    apns: ProviderTally
    fcm: ProviderTally

    @property
    def accepted(self) -> int:
        return self.apns.accepted + self.fcm.accepted

    @property
    def repeated(self) -> int:
        return self.apns.accepted_more_than_once + self.fcm.accepted_more_than_once


class System:
    """What the benchmarks ask of it. Nothing in here is on the path of a measured message."""

    def __init__(self, data: DataDir, *, owned: bool) -> None:
        self.data = data
        self.owned = owned
        """True: started here, and stopped and deleted at the end."""

    @property
    def runtime(self) -> Runtime:
        """Read anew each time: a restarted process has another id."""
        return self.data.runtime()

    @property
    def api(self) -> str:
        return self.runtime.api_url + PREFIX

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.runtime.api_key, "Content-Type": "application/json"}

    def pids(self) -> dict[str, list[int]]:
        return self.runtime.processes

    async def ended(self) -> int:
        """Messages that came to an end, by lifecycle's own counters."""
        pages = await asyncio.gather(*(generator.get(f"{url}/metrics") for url in self.runtime.health["lifecycle"]))
        found = (match for page in pages for match in _APPENDED.findall(page))
        return int(sum(float(value) for kind, value in found if kind.decode() in ENDED))

    async def sandbox(self) -> SandboxStats:
        return msgspec.json.decode(await generator.get(f"{self.runtime.sandbox_url}/v1/stats"), type=SandboxStats)

    async def forget_deliveries(self) -> None:
        """Empty the sandbox's records, so that its tables last; another's installation is left as it is."""
        if self.owned:
            url = f"{self.runtime.sandbox_url}/v1/deliveries"
            async with await generator.Connection.open(url) as connection:
                await connection.exchange(generator.prepare("DELETE", url, {}))

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator["Connection"]:
        """A connection of the database's owner, without the statement timeouts of the services."""
        connection = await asyncpg.connect(self.runtime.postgres_dsn, timeout=10)
        try:
            yield connection
        finally:
            await connection.close()

    async def by_status(self, since: float) -> dict[str, int]:
        """Messages accepted since the Unix time `since`, by status."""
        return await self._counts(_COUNT_BY_STATUS, since)

    async def by_kind(self, since: float) -> dict[str, int]:
        """Messages accepted since then that have an event of each kind."""
        return await self._counts(_COUNT_BY_KIND, since)

    async def _counts(self, query: str, since: float) -> dict[str, int]:
        async with self.database() as connection:
            rows = await connection.fetch(query, since, self.runtime.application_id)
        return {row[0]: row[1] for row in rows}

    async def hold(self, names: Iterable[str]) -> None:
        """Stop these processes and keep them down until `release`."""
        await self._command("stop", names)

    async def release(self, names: Iterable[str]) -> None:
        await self._command("start", names)

    async def _command(self, verb: str, names: Iterable[str]) -> None:
        for name in names:
            request = msgspec.convert({"verb": verb, "name": name}, control.Request)
            await control.ask(self.data, request, CONTROL_SECONDS)


class Running:
    """`async with Running(...) as system`: ready to be measured."""

    def __init__(self, data_dir: Path | None, arguments: tuple[str, ...], scratch: Path, *, keep: bool) -> None:
        self._given = data_dir
        self._arguments = arguments
        self._scratch = scratch
        self._keep = keep
        self._system: System | None = None

    async def __aenter__(self) -> System:
        if self._given is not None:
            self._system = System(DataDir(self._given), owned=False)
            _ = self._system.runtime
            return self._system
        # Beside the repository and not in /tmp, which may be memory: fsync must cost what it costs.
        directory = Path(tempfile.mkdtemp(prefix="bench-", dir=self._scratch))
        self._system = System(DataDir(directory), owned=True)
        try:
            await _automata("up", "--detach", "--data-dir", str(directory), *self._arguments)
        except BaseException:
            await self._remove()
            raise
        return self._system

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._remove()

    async def _remove(self) -> None:
        if self._system is None or not self._system.owned:
            return
        directory = self._system.data.path
        if self._system.data.is_running():
            await _automata("down", "--data-dir", str(directory))
        if not self._keep:
            shutil.rmtree(directory, ignore_errors=True)


async def _automata(*arguments: str) -> None:
    """Raises `Failure` with what the command printed."""
    program = Path(sys.executable).with_name("automata")
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), UP_SECONDS)
    if process.returncode != 0:
        raise Failure(f"automata {arguments[0]} failed", detail=output.decode(errors="replace"))
