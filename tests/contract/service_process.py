"""A service in a process of its own, which ends as its supervisor ends it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from libs.config import Nats
from tests.servers import free_port
from tests.waiting import until


class ServiceProcess:
    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self._process = process
        self._log = log
        self._ready_url = f"http://127.0.0.1:{port}/readyz"

    async def is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            async with aiohttp.ClientSession() as session, session.get(self._ready_url) as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def end(self) -> float:
        """SIGTERM; the seconds until it is gone, without a complaint."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self._process.wait, 60)
        told = self._log.read_text()
        assert code == 0, told[-2000:]
        assert "not_drained_in_time" not in told
        assert "close_failed" not in told
        return loop.time() - began


@contextlib.asynccontextmanager
async def process_of(service: str, nats: Nats, folder: Path, settings: dict[str, str]) -> AsyncIterator[ServiceProcess]:
    """`service`: its package in `services`. `settings`: by their names without `AUTOMATA_`. Killed if it still runs."""
    log, port = folder / f"{service}.log", free_port()
    chosen = {"NATS__URL": nats.url, "NATS__MAX_STREAM_BYTES": str(nats.max_stream_bytes), "HEALTH__PORT": str(port)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOMATA_")}
    environment |= {f"AUTOMATA_{name}": value for name, value in (chosen | settings).items()}
    with log.open("wb") as output:
        argv = [sys.executable, "-m", f"services.{service}"]
        process = subprocess.Popen(argv, env=environment, stdout=output, stderr=output)  # noqa: ASYNC220 - a moment
    found = ServiceProcess(process, log, port)
    try:
        await until(found.is_ready, f"{service} is ready", 60)
        yield found
    finally:
        process.kill()
        process.wait()
