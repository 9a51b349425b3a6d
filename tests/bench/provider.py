"""A sandbox of the benchmark's own, with credentials in hand: the provider for floors and baseline.

It is the same program that the system under test delivers to.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from services.sandbox.credentials import make_apns_credential, make_fcm_credential
from tests.bench import generator

READY_SECONDS = 30
TOPIC = "com.example.bench"


class Provider(msgspec.Struct, frozen=True):
    """Where it listens and what it trusts. Passed to worker processes in a file of mode 0600."""

    pid: int
    url: str
    """Control API."""
    tls_port: int
    ca_file: str
    apns: dict[str, str]
    """`team_id`, `key_id`, `private_key_pem`, `topic`."""
    fcm: dict[str, Any]
    """A service account in Google's file format."""


@contextlib.asynccontextmanager
async def own_sandbox(directory: Path) -> AsyncIterator[Provider]:
    """Raises `RuntimeError` where it does not start; `directory` must exist and be private."""
    port, tls_port = _free_ports(2)
    apns, apns_tenant = make_apns_credential("BENCHTEAM1", TOPIC)
    fcm, fcm_tenant = make_fcm_credential("bench-project", f"https://127.0.0.1:{tls_port}/token")
    tenants = directory / "tenants.json"
    tenants.write_bytes(msgspec.json.encode({"apns": [apns_tenant], "fcm": [fcm_tenant]}))
    environment = {
        "AUTOMATA_SANDBOX__PORT": str(port),
        "AUTOMATA_SANDBOX__TLS_PORT": str(tls_port),
        "AUTOMATA_SANDBOX__TENANTS_FILE": str(tenants),
        "AUTOMATA_SANDBOX__DATA_DIR": str(directory / "sandbox"),
        "AUTOMATA_SANDBOX__PARENT_PID": str(os.getpid()),
    }
    with (directory / "sandbox.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.sandbox", env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await _until_ready(url, process)
        yield Provider(process.pid, url, tls_port, str(directory / "sandbox" / "ca.pem"), apns, fcm)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while process.returncode is None:
            try:
                await generator.get(f"{url}/readyz")
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return
    raise RuntimeError(f"the sandbox ended with {process.returncode}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()
