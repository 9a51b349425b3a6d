"""The product as its user runs it: `automata up` on a data directory, and real signals sent to real processes."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg
import libfaketime  # type: ignore[import-untyped]  # ships no annotations
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

T = TypeVar("T")

AUTOMATA = Path(sys.executable).with_name("automata")
UP_SECONDS = 90.0
BACK_SECONDS = 30.0
SHORT_RETRIES = {"AUTOMATA_RETRY__SCALE": "0.02"}
"""The retry table, fifty times as fast: `network` begins at 0.6 s."""
_COMPLAINTS = ('"level": "error"', '"level": "warning"', "PANIC", "[ERR]", "[FTL]", "Traceback", "SIGKILL", "exited")


class Runtime(msgspec.Struct, frozen=True):
    """What `up` writes to `runtime.json` once every service is ready."""

    api_url: str
    sandbox_url: str
    application_id: str
    api_key: str
    postgres_dsn: str
    nats_url: str
    processes: dict[str, list[int]]
    health: dict[str, list[str]] = {}


class CommandFailed(Exception):
    """`automata` ended with another code than 0; the text has its output."""


class System:
    """One installation in a directory of its own under the temporary directory."""

    def __init__(
        self,
        environment: Mapping[str, str] = SHORT_RETRIES,
        per_process: Mapping[str, Mapping[str, str]] | None = None,
        up: Sequence[str] = (),
    ) -> None:
        """`up`: further arguments of `automata up`."""
        self.data_dir = Path(tempfile.mkdtemp(prefix="signal-faults-"))
        self._environment = {**os.environ, **environment}
        self._per_process = per_process or {}
        self._up = list(up)

    def up(self) -> None:
        """Raises `CommandFailed` when it is not ready within `UP_SECONDS`."""
        extra = list(self._up)
        for name, variables in self._per_process.items():
            for key, value in variables.items():
                extra += ["--env-for", name, f"{key}={value}"]
        self.cli("up", "--detach", *extra, timeout=UP_SECONDS)

    def down(self) -> None:
        """Stop it, kill what is left over, and remove its data."""
        known = [pid for pids in self._known_processes().values() for pid in pids]
        with contextlib.suppress(CommandFailed):
            self.cli("down", timeout=60)
        for pid in known:
            if _belongs_to(pid, self.data_dir):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def cli(self, *arguments: str, timeout: float = 60) -> str:
        """Run `automata … --data-dir DIR`; what it wrote to standard output. Raises `CommandFailed`."""
        command = [str(AUTOMATA), *arguments, "--data-dir", str(self.data_dir)]
        # Files instead of pipes: a detached child that kept a pipe open would never let us see its end.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            try:
                code = subprocess.run(
                    command, env=self._environment, stdout=out, stderr=err, timeout=timeout, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
            out.seek(0)
            err.seek(0)
            output, complaint = out.read(), err.read()
        if code != 0:
            raise CommandFailed(f"automata {' '.join(arguments)} ended with {code}:\n{output}\n{complaint}")
        return output

    @property
    def runtime(self) -> Runtime:
        return msgspec.json.decode((self.data_dir / "runtime.json").read_bytes(), type=Runtime)

    def _known_processes(self) -> dict[str, list[int]]:
        try:
            return self.runtime.processes
        except (OSError, msgspec.MsgspecError):
            return {}

    # faults on processes ---------------------------------------------------------------------------------------------

    def kill(self, name: str) -> list[int]:
        """SIGKILL to every process of one name; the pids."""
        pids = self.runtime.processes[name]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pids

    async def back(self, name: str, killed: list[int]) -> None:
        """Wait until the supervisor has put others in the place of the killed, and they are ready."""

        async def replaced() -> bool:
            pids = self._known_processes().get(name, [])
            return bool(pids) and not set(pids) & set(killed) and all(psutil.pid_exists(pid) for pid in pids)

        await until(replaced, f"{name} is running again", BACK_SECONDS)
        await self.ready(name)

    async def ready(self, name: str) -> None:
        async def answers() -> bool:
            urls = self.runtime.health.get(name, [])
            return all([await _answers_ready(url) for url in urls])

        await until(answers, f"{name} is ready", BACK_SECONDS)

    async def stop(self, name: str) -> None:
        """Hold one service down: the supervisor leaves it so."""
        await asyncio.to_thread(self.cli, "stop", name)

    async def start(self, name: str) -> None:
        await asyncio.to_thread(self.cli, "start", name)
        await self.ready(name)

    # what can be seen from outside -----------------------------------------------------------------------------------

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A read-only connection to the database. The caller closes it."""
        return await asyncpg.connect(
            self.runtime.postgres_dsn, timeout=5, server_settings={"default_transaction_read_only": "on"}
        )

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        connection = await self.connect()
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def metric(self, name: str, family: str, **labels: str) -> float:
        """The sum over the processes of `name` and over all label sets that contain `labels`; 0 where absent."""
        total = 0.0
        async with aiohttp.ClientSession() as session:
            for url in self.runtime.health.get(name, []):
                async with session.get(_health(url, "/metrics")) as response:
                    total += _total(await response.text(), family, labels)
        return total

    def logs(self) -> list[Path]:
        return sorted(self.data_dir.rglob("*.log"))

    def complaints(self, lines: int = 8) -> str:
        """The last lines of each log that tell of something going wrong."""
        parts = []
        for path in self.logs():
            told = path.read_text(errors="replace").splitlines()
            wrong = [line[:1_500] for line in told if any(word in line for word in _COMPLAINTS)]
            parts += [f"--- {path.name}", *wrong[-lines:]] if wrong else []
        return "\n".join(parts)


async def until(condition: Callable[[], Awaitable[T]], what: str, seconds: float, every: float = 0.1) -> T:
    """Ask until the answer is truthy. A refused connection is a `no`. Raises `TimeoutError` naming `what`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    complaint = ""
    while loop.time() < deadline:
        try:
            answer = await condition()
        except (OSError, TimeoutError, aiohttp.ClientError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            complaint = f" (last error: {type(error).__name__}: {error})"
        else:
            if answer:
                return answer
        await asyncio.sleep(every)
    raise TimeoutError(f"not within {seconds:.0f} s: {what}{complaint}")


def skewed(seconds: int) -> dict[str, str]:
    """Environment of a process whose clock is `seconds` off; its timers run as ever."""
    library = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def _belongs_to(pid: int, data_dir: Path) -> bool:
    """A pid may have been given to another by now: only a process that names our directory is ours."""
    try:
        process = psutil.Process(pid)
        texts = [*process.cmdline(), process.cwd(), *process.environ().values()]
    except psutil.Error:
        return False
    return any(str(data_dir) in text for text in texts)


async def _answers_ready(url: str) -> bool:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
        session.get(_health(url, "/readyz"), ssl=False) as response,
    ):
        return response.status == 200


def _health(url: str, path: str) -> str:
    """`url` is the address of a health server, with or without the path of one of its routes."""
    for known in ("/readyz", "/healthz", "/livez", "/metrics"):
        url = url.removesuffix(known)
    return url.rstrip("/") + path


def _total(exposition: str, family: str, labels: Mapping[str, str]) -> float:
    return sum(
        sample.value
        for metric in text_string_to_metric_families(exposition)
        for sample in metric.samples
        if sample.name == family and labels.items() <= sample.labels.items()
    )
