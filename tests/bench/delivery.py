"""Sending batches as a back end would: several connections, the next request when the last one is answered."""

import asyncio
import time
from collections.abc import Iterator

import msgspec

from tests.bench.generator import Answer, Connection

PATIENCE = 60.0
"""Seconds for which a refused request is repeated."""
REFUSALS = (429, 503)


class _Counts(msgspec.Struct, frozen=True):
    accepted: int
    refused: int


class _BatchAnswer(msgspec.Struct, frozen=True):
    data: _Counts


class Sent(msgspec.Struct):
    """What the clients were told."""

    accepted: int = 0
    refused: int = 0
    """Items, each with an error of its own."""
    put_off: int = 0
    """Requests answered 429 or 503, and repeated."""


async def send_batches(url: str, requests: Iterator[tuple[int, bytes]], connections: int) -> Sent:
    """Raises `RuntimeError` for an answer that is neither 200 nor a refusal to be repeated."""
    sent = Sent()

    async def work() -> None:
        async with await Connection.open(url) as connection:
            for _, request in requests:
                answer = await _insist(connection, request, sent)
                counts = msgspec.json.decode(answer.body, type=_BatchAnswer).data
                sent.accepted += counts.accepted
                sent.refused += counts.refused

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
    return sent


async def _insist(connection: Connection, request: bytes, sent: Sent) -> Answer:
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = await connection.exchange(request)
        if answer.status == 200:
            return answer
        if answer.status not in REFUSALS or time.monotonic() > deadline:
            raise RuntimeError(f"POST /messages/batch: {answer.status} {answer.body[:300].decode()}")
        sent.put_off += 1
        await asyncio.sleep(answer.retry_after or 0.1)
