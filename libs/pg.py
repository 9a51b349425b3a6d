"""Postgres behind one door: pool, transactions, and what a lost database means to callers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import asyncpg
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from libs import telemetry
from libs.config import Database
from libs.envelope import Lane
from libs.errors import ServiceUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    PgPool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = PgPool = Any
Row = asyncpg.Record

UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was lost in the middle of a statement may end so
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.TooManyConnectionsError,
    asyncpg.exceptions.QueryCanceledError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.DiskFullError,
    asyncpg.exceptions.OutOfMemoryError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    ConnectionError,
    asyncio.TimeoutError,
    OSError,
)
"""Failures that say nothing of the data: the transaction did not commit, or nobody knows, and it may be repeated."""

_encode_json = msgspec.json.Encoder().encode
ACQUIRE_SECONDS = 5.0
START_SECONDS = 60.0
"""How long a service waits at its start for a database that is not there yet."""
CONNECT_SECONDS = 5.0
HOST_SECONDS = 1.5
"""The same where a DSN names several hosts: one that lost its power says nothing, and the next is to be asked."""
CLOSE_SECONDS = 2.0
PULSE_SECONDS = 1.0
SILENT_SECONDS = 4.0
"""A server that does not answer the shortest question for so long is gone, though its connections are open."""


class Deadlocked(ServiceUnavailable):
    """The transaction was given up in favour of another one that waited for it: it may be begun anew at once."""


class _Hosts:
    """The hosts that a DSN names, `postgresql://user:password@a:5432,b:5432/db`: the one that answered last is first.

    asyncpg knows such a DSN too, but does not go on to the next host when one is silent, or is starting up.
    """

    def __init__(self, url: str) -> None:
        self._urls = _each_host(url)

    async def connect(self, *_: Any, **options: Any) -> Any:
        """Raises what the last host said when none takes changes."""
        several = len(self._urls) > 1
        refusal: BaseException = ConnectionError()
        for url in list(self._urls):
            try:
                return await asyncpg.connect(url, timeout=HOST_SECONDS if several else CONNECT_SECONDS, **options)
            except UNAVAILABLE as error:
                refusal = error
                self._put_last(url)
        raise refusal

    def _put_last(self, url: str) -> None:
        self._urls.sort(key=lambda each: each == url)


def _each_host(url: str) -> list[str]:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    query = parts.query if "target_session_attrs" in parts.query else f"{parts.query}&target_session_attrs=read-write"
    return [parts._replace(netloc=f"{user}{at}{host}", query=query.lstrip("&")).geturl() for host in hosts.split(",")]


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + _encode_json(value),
        decoder=lambda raw: msgspec.json.decode(raw[1:]),
    )


async def _keep_session(_: Any) -> None:
    """A released connection keeps its settings (the log's epoch), and saves the round trip that resets them."""


async def connect_pool(settings: Database, *, prepare: str | None = None, reserve: int = 0) -> "Pool":
    """A pool whose connections fail fast. `prepare` is run on each new connection. `reserve`: connections that all but
    critical messages leave free (`Pool.of`); never more than half.

    Waits for the database at start-up; gives up after a minute, which ends the process with a clear error.
    """
    hosts = _Hosts(settings.url)

    async def init(connection: Any) -> None:
        await _prepare(connection)
        if prepare is not None:
            await connection.execute(prepare)

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(UNAVAILABLE),
        wait=wait_exponential(multiplier=0.1, max=2),
        stop=stop_after_delay(START_SECONDS),
        before_sleep=lambda _: telemetry.logger("pg").info("waiting_for_postgres"),
        reraise=True,
    ):
        with attempt:
            pool = await asyncpg.create_pool(
                connect=hosts.connect,
                min_size=1,
                max_size=settings.pool,
                max_inactive_connection_lifetime=300,
                command_timeout=settings.statement_timeout + 5,
                init=init,
                reset=_keep_session,
                server_settings=_session(settings),
            )
    kept = min(reserve, settings.pool // 2)
    return Pool(_Server(pool, settings.url), settings.pool - kept if kept else None)


def _session(settings: Database) -> dict[str, str]:
    return {
        "application_name": "automata",
        "statement_timeout": str(int(settings.statement_timeout * 1000)),
        "idle_in_transaction_session_timeout": "5000",
        "synchronous_commit": "on",
        "jit": "off",
        # Every statement is prepared and takes whole batches: planning it over all partitions again each time cost
        # more than running it.
        "plan_cache_mode": "force_generic_plan",
    }


class Pool:
    """A door to the server's connections. Raises `ServiceUnavailable` wherever the database is away, slow or full.

    Nobody may ask for a connection while holding one: those who wait for each other's would wait in vain.
    """

    def __init__(self, server: "_Server", most: int | None = None) -> None:
        """`most`: connections that may be had through this door at once, where not all."""
        self._server = server
        self._turns = contextlib.nullcontext() if most is None else _Turns(most)
        self._of_critical = self if most is None else Pool(server)

    def of(self, lane: Lane) -> "Pool":
        """As the messages of a lane may use it: critical ones find what all others together must leave free (R10)."""
        return self._of_critical if lane == "critical" else self

    async def close(self) -> None:
        await self._server.close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator["Connection"]:
        server, loop = self._server, asyncio.get_running_loop()
        until = loop.time() + ACQUIRE_SECONDS
        server.refuse_if_silent()
        with unavailable():
            async with self._turns:
                server.refuse_if_silent()
                async with server.connections.acquire(timeout=max(0.1, until - loop.time())) as connection:
                    server.in_use.add(connection)
                    try:
                        yield connection
                    except asyncpg.exceptions.ReadOnlySQLTransactionError:
                        await server.connections.expire_connections()  # another server is the primary now
                        raise
                    finally:
                        server.in_use.discard(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Connection"]:
        """READ COMMITTED: each statement sees what others committed before it began."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def is_ready(self) -> bool:
        async with self.connection() as connection:
            return bool(await connection.fetchval("SELECT true"))


class _Turns(asyncio.Semaphore):
    async def acquire(self) -> Literal[True]:
        """Raises `TimeoutError`. Who need not wait is not charged for a timeout, which costs more than all the rest."""
        if not self.locked():
            return await super().acquire()
        async with asyncio.timeout(ACQUIRE_SECONDS):
            return await super().acquire()


class _Server:
    """The connections to a server, and its pulse.

    A server that lost its power, or its network, closes no connection. So one is asked every second, and when it stays
    silent all are dropped: whoever waits is told at once, and whoever comes meanwhile too.
    """

    def __init__(self, connections: "PgPool", url: str) -> None:
        self.connections = connections
        self.in_use: set[Connection] = set()
        self.silent = False
        self._url = url
        self._pulse = asyncio.create_task(self._watch())

    def refuse_if_silent(self) -> None:
        if self.silent:
            raise ServiceUnavailable(service="postgres", retry_after=1)

    async def close(self) -> None:
        self._pulse.cancel()
        await asyncio.wait({self._pulse}, timeout=5)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.connections.close(), 5)

    async def _watch(self) -> None:
        again = False
        while True:
            try:
                async with single_connection(self._url) as connection:
                    self.silent = False
                    if again:
                        await self.connections.expire_connections()  # they may be to another server than this
                    again = True
                    while await _answers(connection):
                        await asyncio.sleep(PULSE_SECONDS)
                    connection.terminate()
                    await self._drop()
            except TimeoutError:
                await self._drop()
            except (asyncpg.PostgresError, *UNAVAILABLE) as error:
                telemetry.logger("pg").debug("no_pulse", error_type=type(error).__name__)
            await asyncio.sleep(PULSE_SECONDS)

    async def _drop(self) -> None:
        if not self.silent:
            telemetry.logger("pg").warning("postgres_silent")
        self.silent = True
        for connection in list(self.in_use):
            connection.terminate()
        await self.connections.expire_connections()


@contextlib.contextmanager
def unavailable() -> Any:
    try:
        yield
    except UNAVAILABLE as error:
        telemetry.logger("pg").debug("postgres_unavailable", error_type=type(error).__name__)
        raise ServiceUnavailable(service="postgres", retry_after=1) from error
    except asyncpg.exceptions.DeadlockDetectedError as error:
        raise Deadlocked(service="postgres", retry_after=1) from error
    except asyncpg.PostgresError as error:
        error.detail = None  # it quotes the row, and what is raised may be logged
        raise


async def _answers(connection: Connection) -> bool:
    """Raises where the connection was closed: then the others are as well, or were not meant."""
    asked = asyncio.ensure_future(connection.fetchval("SELECT true"))
    await asyncio.wait({asked}, timeout=SILENT_SECONDS)
    await asyncio.sleep(0)  # where it was this process that stood still, the answer is here by now
    if asked.done():
        return bool(asked.result())
    asked.cancel()
    return False


@contextlib.asynccontextmanager
async def single_connection(url: str) -> AsyncIterator["Connection"]:
    """One connection outside of a pool, for migrations and advisory locks that live with a session."""
    connection = await _Hosts(url).connect()
    try:
        await _prepare(connection)
        yield connection
    finally:
        async with asyncio.timeout(CLOSE_SECONDS):  # asyncpg's own timeout forgets what was cancelled and hears nothing
            await connection.close()
