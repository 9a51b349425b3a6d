"""The client: registers subscriptions, sends messages at a steady pace, and writes down what it was told."""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec

from tests.faults.ledger import Attempt, Client, Request
from tests.faults.plan import (
    VOLLEY,
    VOLLEY_ITEMS,
    VOLLEYS,
    Shape,
    Subscriptions,
    body_of,
    fragile_batch,
    plan,
    single,
)
from tests.faults.system import until

ANSWER_SECONDS = 90.0
"""How long a request is repeated before the client calls it unanswered."""
TRY_SECONDS = 10.0
CONNECTIONS = 8
REGISTRATIONS = 16


class LoadEnded(Exception):
    """The load ended before it had come as far as was waited for."""


class Flow:
    """One run of requests against one installation, noted in `client`."""

    def __init__(self, api_url: str, api_key: str, client: Client, shape: Shape, dice: random.Random) -> None:
        self.client = client
        self.shape = shape
        self._api = f"{api_url}/api/v1"
        self._key = api_key
        self._dice = dice
        self._own: list[str] = []
        self._shared: list[str] = []
        self._probing: Request | None = None
        self._planned = 0
        self._answered = 0
        self._ended = False
        self._volleys: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until every request was answered, given up, or repeated in vain."""
        try:
            async with self._session() as session:
                subscriptions = await self._register(session)
                requests = plan(self.shape, subscriptions, self._dice)
                self._own, self._shared = subscriptions.own, subscriptions.shared
                self._planned = sum(len(request.subscriptions) for request in requests)
                queue = self._paced(requests, time.monotonic())
                await asyncio.gather(*(self._worker(session, queue) for _ in range(CONNECTIONS)))
            await asyncio.gather(*self._volleys)
            if self._probing is not None:
                await self.until_accepted()
        finally:
            self._ended = True

    async def reached(self, part: float) -> None:
        """Wait until this part of the planned items has an answer. Raises `LoadEnded` if that will never be."""

        async def there() -> bool:
            enough = self._planned > 0 and self._answered >= part * self._planned
            if self._ended and not enough:
                raise LoadEnded(f"{self._answered} of {self._planned} items were answered")
            return enough

        await until(there, f"{part:.0%} of the items are answered", ANSWER_SECONDS, every=0.01)

    async def volley(self) -> None:
        """Send a few fragile batches at once, and return while they are under way: somebody is about to die."""
        requests = [fragile_batch(self._own.pop(), VOLLEY_ITEMS) for _ in range(VOLLEY)]
        self._volleys += [asyncio.create_task(self.send(request)) for request in requests]
        await asyncio.sleep(self._dice.uniform(0.002, 0.03))

    async def send_one(self, subscription: str) -> Request:
        """One `POST /messages` beside the plan."""
        request = single(subscription)
        await self.send(request)
        return request

    async def probe(self) -> Attempt:
        """One try of a `POST /messages` beside the plan: what was answered, and how soon. An error is tried again by
        the next one."""
        request = self._probing or self._new_probe()
        async with self._session() as session:
            await self._try(session, request, body_of(request, self.shape.ttl))
        self._probing = request if request.state == "open" else None
        return request.attempts[-1]

    async def until_accepted(self) -> float:
        """The same, repeated until it is answered; the seconds that it took."""
        began = time.monotonic()
        request, self._probing = self._probing or self._new_probe(), None
        async with self._session() as session:
            await self._repeat(session, request)
        return time.monotonic() - began

    def _new_probe(self) -> Request:
        request = single(self._dice.choice(self._shared))
        self.client.note(request)
        return request

    async def send(self, request: Request) -> None:
        async with self._session() as session:
            await self._deliver(session, request)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"X-API-Key": self._key},
            timeout=aiohttp.ClientTimeout(total=TRY_SECONDS),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS * 2),
        )

    def _paced(self, requests: list[Request], began: float) -> Iterator[tuple[Request, float]]:
        """Each request with the moment it may begin: evenly by items."""
        ahead = 0
        for request in requests:
            yield request, began + self.shape.seconds * ahead / self._planned
            ahead += len(request.subscriptions)

    async def _worker(self, session: aiohttp.ClientSession, queue: Iterator[tuple[Request, float]]) -> None:
        for request, begins in queue:
            await asyncio.sleep(max(0.0, begins - time.monotonic()))
            await self._deliver(session, request)
            self._answered += len(request.subscriptions)

    async def _deliver(self, session: aiohttp.ClientSession, request: Request) -> None:
        self.client.note(request)
        await self._repeat(session, request)

    async def _repeat(self, session: aiohttp.ClientSession, request: Request) -> None:
        body = body_of(request, self.shape.ttl)
        gives_up_at = time.monotonic() + ANSWER_SECONDS
        while request.state == "open":
            await self._try(session, request, body)
            if request.state == "open" and request.fragile:
                request.state = "given_up"
            elif request.state == "open" and time.monotonic() > gives_up_at:
                request.state = "unanswered"
            elif request.state == "open":
                await asyncio.sleep(0.2)

    async def _try(self, session: aiohttp.ClientSession, request: Request, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": request.key}
        began = time.time()
        try:
            async with session.post(self._api + request.path, data=body, headers=headers) as response:
                status, text = response.status, await response.read()
                replayed = response.headers.get("Idempotency-Replayed") == "true"
                retry_after = response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            request.attempts.append(Attempt(began, type(error).__name__, time.time() - began))
            return
        request.attempts.append(Attempt(began, str(status), time.time() - began, retry_after))
        if status < 500 and status != 429:
            request.replayed = replayed
            note_answer(request, status, msgspec.json.decode(text))

    async def _register(self, session: aiohttp.ClientSession) -> Subscriptions:
        shared = self.shape.shared
        own = self.shape.fragile + VOLLEY * VOLLEYS
        types = [self.shape.types[n % len(self.shape.types)] for n in range(shared + own)]
        gate = asyncio.Semaphore(REGISTRATIONS)

        async def one(kind: str) -> str:
            async with gate:
                return await register(session, self._api, kind)

        found = await asyncio.gather(*(one(kind) for kind in types))
        return Subscriptions(found[:shared], found[shared:])


def note_answer(request: Request, status: int, answer: dict[str, Any]) -> None:
    """Write down a definite answer: ids and refusals per item."""
    request.state = "answered"
    if status == 201:
        request.accepted = {0: answer["data"]["message_id"]}
    elif status == 200:
        results = answer["data"]["results"]
        request.accepted = {n: each["message_id"] for n, each in enumerate(results) if "message_id" in each}
        request.refused = {n: each["error"]["code"] for n, each in enumerate(results) if "error" in each}
    else:
        code = answer.get("error", {}).get("code", str(status))
        request.refused = dict.fromkeys(range(len(request.subscriptions)), code)


async def register(session: aiohttp.ClientSession, api: str, kind: str, token: str | None = None) -> str:
    """`POST /subscriptions`; the id. Raises `aiohttp.ClientResponseError` when refused."""
    # A beginning of its own: the sandbox gives some (`dead…`) a meaning.
    token = token or (f"fa{secrets.token_hex(31)}" if kind == "iOSPush" else f"fault:{secrets.token_urlsafe(110)}")
    async with session.post(f"{api}/subscriptions", json={"type": kind, "token": token}) as response:
        response.raise_for_status()
        answer = await response.json()
    found: str = answer["data"]["subscription_id"]
    return found


@contextlib.asynccontextmanager
async def flowing(flow: Flow) -> AsyncIterator[Flow]:
    """Run `flow` beside the body; leaves when both are done. What broke the load is raised, not what it led to."""
    task = asyncio.create_task(flow.run())
    try:
        yield flow
        await task
    except LoadEnded:
        await task
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
