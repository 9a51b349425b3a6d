"""A pool of registered subscriptions, and the requests that send to them, prepared ahead of time."""

import asyncio
import itertools
import secrets
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from tests.bench.generator import Connection, prepare
from tests.bench.system import System

REGISTERING = 32
"""Connections."""


class _Created(msgspec.Struct, frozen=True):
    subscription_id: str


class _Answer(msgspec.Struct, frozen=True):
    data: _Created


class Sender(Protocol):
    """An application: where it asks, and with which key."""

    @property
    def api(self) -> str: ...

    @property
    def headers(self) -> dict[str, str]: ...


class Recipients:
    """Items and requests in turns over the whole pool, iOS and Android interleaved."""

    def __init__(self, sender: Sender, ids: list[str]) -> None:
        self._sender = sender
        self.api = sender.api
        self.ids = ids
        self._numbers = itertools.cycle(range(len(ids)))

    def batches(self, messages: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Requests of `POST /messages/batch` with `size` items each, `messages` in all: (items, bytes)."""
        items = [_item(identifier) for identifier in self.ids]
        url, headers = f"{self._sender.api}/messages/batch", self._sender.headers
        for start in range(0, messages, size):
            count = min(size, messages - start)
            chosen = (items[number] for number in itertools.islice(self._numbers, count))
            yield count, prepare("POST", url, headers, b'{"messages":[' + b",".join(chosen) + b"]}")

    def singles(self, priority: str | None = None) -> list[bytes]:
        """One request of `POST /messages` for each subscription."""
        url, headers = f"{self._sender.api}/messages", self._sender.headers
        return [prepare("POST", url, headers, _item(identifier, priority)) for identifier in self.ids]


async def register(system: System, count: int, ios_share: float) -> Recipients:
    """Register `count` devices by `POST /subscriptions`. Raises `RuntimeError` when one is refused."""
    run = "a" + secrets.token_hex(8)
    devices = [device(run, number, ios=_is_ios(number, ios_share)) for number in range(count)]
    return Recipients(system, await register_all(system.api, system.headers, devices))


async def register_all(api: str, headers: dict[str, str], devices: Sequence[dict[str, str]]) -> list[str]:
    """The ids, in the order in which they were answered. Raises `RuntimeError` when one is refused."""
    url = f"{api}/subscriptions"
    requests = (prepare("POST", url, headers, msgspec.json.encode(body)) for body in devices)
    ids: list[str] = []

    async def work() -> None:
        async with await Connection.open(url) as connection:
            for request in requests:
                answer = await connection.exchange(request)
                if answer.status != 201:
                    raise RuntimeError(f"POST /subscriptions: {answer.status} {answer.body[:300].decode()}")
                ids.append(msgspec.json.decode(answer.body, type=_Answer).data.subscription_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(REGISTERING, len(devices))):
            group.create_task(work())
    return ids


def _is_ios(number: int, share: float) -> bool:
    """Spread evenly: any run of neighbours has the mix of the whole."""
    return int((number + 1) * share) > int(number * share)


def device(run: str, number: int, *, ios: bool) -> dict[str, str]:
    """`run`: hexadecimal, tells one run's devices from another's."""
    # The sandbox gives a meaning of their own to tokens that begin with certain words; these do not.
    if ios:
        return {"type": "iOSPush", "token": f"{run}{number:0{64 - len(run)}x}"}
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
