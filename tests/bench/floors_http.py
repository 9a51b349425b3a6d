"""HTTP: a trivial aiohttp handler, and HTTP/2 POSTs to the provider sandbox over pyreqwest."""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import jwt
from pyreqwest.client import Client, ClientBuilder
from uuid_utils.compat import uuid7

from tests.bench.floor import Floor, measure
from tests.bench.generator import Connection, prepare
from tests.bench.provider import TOPIC, Provider, own_sandbox

CONNECTIONS = 64
STREAMS = 200
"""HTTP/2 requests under way at once, on one connection."""
AIOHTTP = "aiohttp, trivial JSON handler, 64 connections"
HTTP2 = "HTTP/2 POST to the sandbox (pyreqwest, TLS)"

# A process of its own, so that its CPU is its own.
_SERVER = """
import asyncio, msgspec, uvloop
from aiohttp import web
async def answer(request):
    item = msgspec.json.decode(await request.read())
    return web.json_response({"status": "success", "data": {"id": item["id"]}})
async def main():
    app = web.Application()
    app.add_routes([web.post("/", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""


async def run(scratch: Path) -> AsyncIterator[Floor]:
    yield await _aiohttp()
    with tempfile.TemporaryDirectory(prefix="floor-", dir=scratch) as directory:
        async with own_sandbox(Path(directory)) as provider:
            yield await _http2(provider)


async def _aiohttp() -> Floor:
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", _SERVER, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(await server.stdout.readline())}/"
        connections = [await Connection.open(url) for _ in range(CONNECTIONS)]
        request = prepare("POST", url, {"Content-Type": "application/json"}, b'{"id":"' + b"7" * 36 + b'"}')

        async def once() -> int:
            await asyncio.gather(*(_repeat(connection, request, 10) for connection in connections))
            return CONNECTIONS * 10

        return await measure(AIOHTTP, once, "6,600/s per core", server=server.pid)
    finally:
        server.terminate()
        await server.wait()


async def _repeat(connection: Connection, request: bytes, times: int) -> None:
    for _ in range(times):
        await connection.exchange(request)


async def _http2(provider: Provider) -> Floor:
    client = _client(Path(provider.ca_file))
    try:
        return await measure(HTTP2, _posting(client, provider), "13,800/s, 87 µs", server=provider.pid)
    finally:
        await client.close()
        await asyncio.sleep(0.2)  # the Rust runtime was seen to abort in a process that ended sooner


def _client(ca_file: Path) -> Client:
    return (
        ClientBuilder()
        .http2_prior_knowledge()
        .follow_redirects(False)
        .no_proxy()
        .timeout(timedelta(seconds=10))
        .add_root_certificate_pem(ca_file.read_bytes())
        .build()
    )


def _posting(client: Client, provider: Provider) -> Callable[[], Awaitable[int]]:
    """APNs requests, each with an id and a device of its own."""
    apns = provider.apns
    claims = {"iss": apns["team_id"], "iat": int(time.time())}
    token = jwt.encode(claims, apns["private_key_pem"], "ES256", {"kid": apns["key_id"]})
    headers = {"authorization": f"bearer {token}", "apns-topic": TOPIC, "apns-push-type": "alert"}
    prefix = f"https://127.0.0.1:{provider.tls_port}/3/device/"
    body = b'{"aps":{"alert":{"title":"Your order is on its way","body":"It will be with you tomorrow."}}}'
    numbers = itertools.count()

    async def post() -> None:
        url = f"{prefix}a{next(numbers) % 20_000:063x}"
        request = client.post(url).headers({**headers, "apns-id": str(uuid7())}).body_bytes(body).build()
        answer = await request.send()
        if answer.status != 200:
            raise RuntimeError(f"sandbox: {answer.status} {(await answer.text())[:200]}")
        await answer.bytes()

    async def once() -> int:
        await asyncio.gather(*(_posts(post) for _ in range(STREAMS)))
        return STREAMS * 5

    return once


async def _posts(post: Callable[[], Awaitable[None]]) -> None:
    for _ in range(5):
        await post()
