"""A pool of registered subscriptions, and the requests that send to them, prepared ahead of time."""

import asyncio
import itertools
import secrets
from collections.abc import Iterator

import msgspec

from tests.bench.generator import Connection, prepare
from tests.bench.system import System

REGISTERING = 32
"""Connections."""


class _Created(msgspec.Struct, frozen=True):
    subscription_id: str


class _Answer(msgspec.Struct, frozen=True):
    data: _Created


class Recipients:
    """Items and requests in turns over the whole pool, iOS and Android interleaved."""

    def __init__(self, system: System, ids: list[str]) -> None:
        self._system = system
        self.ids = ids
        self._numbers = itertools.cycle(range(len(ids)))

    def batches(self, messages: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Requests of `POST /messages/batch` with `size` items each, `messages` in all: (items, bytes)."""
        items = [_item(identifier) for identifier in self.ids]
        url, headers = f"{self._system.api}/messages/batch", self._system.headers
        for start in range(0, messages, size):
            count = min(size, messages - start)
            chosen = (items[number] for number in itertools.islice(self._numbers, count))
            yield count, prepare("POST", url, headers, b'{"messages":[' + b",".join(chosen) + b"]}")

    def singles(self, priority: str | None = None) -> list[bytes]:
        """One request of `POST /messages` for each subscription."""
        url, headers = f"{self._system.api}/messages", self._system.headers
        return [prepare("POST", url, headers, _item(identifier, priority)) for identifier in self.ids]


async def register(system: System, count: int, ios_share: float) -> Recipients:
    """Register `count` devices by `POST /subscriptions`. Raises `RuntimeError` when one is refused."""
    url, headers = f"{system.api}/subscriptions", system.headers
    run = secrets.token_hex(8)
    bodies = (_device(run, number, _is_ios(number, ios_share)) for number in range(count))
    requests = (prepare("POST", url, headers, msgspec.json.encode(body)) for body in bodies)
    ids: list[str] = []

    async def work() -> None:
        async with await Connection.open(url) as connection:
            for request in requests:
                answer = await connection.exchange(request)
                if answer.status != 201:
                    raise RuntimeError(f"POST /subscriptions: {answer.status} {answer.body[:300].decode()}")
                ids.append(msgspec.json.decode(answer.body, type=_Answer).data.subscription_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(REGISTERING, count)):
            group.create_task(work())
    return Recipients(system, ids)


def _is_ios(number: int, share: float) -> bool:
    """Spread evenly: any run of neighbours has the mix of the whole."""
    return int((number + 1) * share) > int(number * share)


def _device(run: str, number: int, ios: bool) -> dict[str, str]:
    # The sandbox gives a meaning of their own to tokens that begin with certain words; these do not.
    if ios:
        return {"type": "iOSPush", "token": f"a{run}{number:047x}"}
    return {"type": "AndroidPush", "token": f"bench-{run}-{number:012x}:{'A' * 120}"}


def _item(subscription_id: str, priority: str | None = None) -> bytes:
    item = {
        "subscription_id": subscription_id,
        "title": "Your order is on its way",
        "body": "Order 20261123-0042 left our warehouse and will be with you tomorrow between 9 and 12.",
        "data": {"order": "20261123-0042", "screen": "orders"},
    }
    if priority is not None:
        item["priority"] = priority
    return msgspec.json.encode(item)
