"""Further applications of the system under test, each with a key, devices, and credentials that the sandbox knows."""

import asyncio
import secrets
import sys
from pathlib import Path
from typing import Any

import msgspec

from services.cli import datadir
from services.cli.credentials import Credentials
from tests.bench.generator import Connection, prepare
from tests.bench.recipients import Recipients, device, register_all
from tests.bench.system import System


class Tenant(msgspec.Struct, frozen=True):
    """One application, as `Recipients` needs it."""

    application_id: str
    api: str
    headers: dict[str, str]


async def tenant(system: System, name: str, *, broken: bool = False) -> Tenant:
    """`broken`: its APNs key is one that Apple never saw."""
    data = str(system.data.path)
    made = await _json("app", "create", name, "--tier", "unlimited", "--json", "--data-dir", data)
    application_id = str(made["application_id"])
    scopes = ("--scope", "send", "--scope", "read", "--scope", "manage")
    key = await _json("key", "create", "bench", *scopes, "--application", application_id, "--json", "--data-dir", data)
    headers = {"X-API-Key": str(key["api_key"]), "Content-Type": "application/json"}
    found = Tenant(application_id, system.api, headers)
    private = datadir.read(system.data.secrets / "credentials.json", Credentials)
    if private is None:
        raise RuntimeError("no demonstration credentials in the data directory")
    apns = private.private["apns"]
    await _put(found, "apns", apns | {"key_id": "UNKNOWN123"} if broken else apns)
    await _put(found, "fcm", private.private["fcm"])
    return found


async def ios_devices(of: Tenant, count: int, prefix: str) -> Recipients:
    """`prefix`: how their tokens begin, in hexadecimal, so that a fault of the sandbox can mean these alone."""
    run = prefix + secrets.token_hex(6)
    ids = await register_all(of.api, of.headers, [device(run, number, ios=True) for number in range(count)])
    return Recipients(of, ids)


async def _put(of: Tenant, provider: str, secret: dict[str, Any]) -> None:
    url = f"{of.api}/credentials/{provider}"
    async with await Connection.open(url) as connection:
        answer = await connection.exchange(prepare("PUT", url, of.headers, msgspec.json.encode(secret)))
    if answer.status not in (200, 201):
        raise RuntimeError(f"PUT /credentials/{provider}: {answer.status} {answer.body[:300].decode()}")


async def _json(*arguments: str) -> dict[str, Any]:
    """Raises `RuntimeError` with what the command printed."""
    program = Path(sys.executable).with_name("automata")
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, complaint = await asyncio.wait_for(process.communicate(), 60)
    if process.returncode != 0:
        raise RuntimeError(f"automata {' '.join(arguments[:2])}: {complaint.decode(errors='replace')}")
    return msgspec.json.decode(output, type=dict[str, Any])
