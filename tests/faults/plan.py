"""What the client will send: batches of random sizes and single messages, mixed. Pure but for its dice."""

import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tests.faults.ledger import Request

BATCH_SHARE = 0.95
FRAGILE_SHARE = 0.2
"""Of the batches: given up at the first error."""
REFUSABLE_SHARE = 0.2
"""Of the batches: with one item for a subscription that does not exist."""
VOLLEY = 4
"""Fragile batches that are sent at once when a process is about to be killed."""
VOLLEYS = 8
VOLLEY_ITEMS = 50

_encode = msgspec.json.Encoder().encode


class Shape(msgspec.Struct, frozen=True):
    """What is sent, and how fast."""

    messages: int
    seconds: float
    """The last request begins this long after the first, if answers keep up."""
    types: tuple[str, ...] = ("iOSPush", "AndroidPush")
    ttl: int | None = None
    """Seconds, for every second request."""

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """100 to 1,000 items; of a short run at most a twentieth, so that it has many batches too."""
        return min(100, max(2, self.messages // 80)), max(4, min(1_000, self.messages // 20))

    @property
    def fragile(self) -> int:
        low, high = self.batch_sizes
        return max(2, round(FRAGILE_SHARE * self.messages * BATCH_SHARE / ((low + high) / 2)))

    @property
    def shared(self) -> int:
        """Subscriptions that the messages are spread over."""
        return max(20, min(400, self.messages // 20))


class Subscriptions(msgspec.Struct, frozen=True):
    shared: list[str]
    own: list[str]
    """One for each fragile request."""


def shape_of(messages: int) -> Shape:
    """Enough seconds for several kills in the flow; more messages a second the more there are."""
    return Shape(messages, seconds=max(4.0, min(12.0, messages / 1_500)))


def plan(shape: Shape, subscriptions: Subscriptions, dice: random.Random) -> list[Request]:
    """Takes from `subscriptions.own` what the fragile ones need."""
    sizes = list(_cut(round(shape.messages * BATCH_SHARE), shape.batch_sizes, dice))
    fragile = set(dice.sample(range(len(sizes)), min(shape.fragile, len(sizes))))
    requests = [
        fragile_batch(subscriptions.own.pop(), size) if n in fragile else _batch(size, subscriptions.shared, dice)
        for n, size in enumerate(sizes)
    ]
    requests += [single(dice.choice(subscriptions.shared)) for _ in range(shape.messages - sum(sizes))]
    dice.shuffle(requests)
    return requests


def single(subscription: str) -> Request:
    return Request("/messages", str(uuid.uuid4()), [subscription])


def fragile_batch(own: str, size: int) -> Request:
    return Request("/messages/batch", str(uuid.uuid4()), [own] * size, fragile=True)


def body_of(request: Request, ttl: int | None) -> bytes:
    """The same bytes for the same request: a repeat must have the fingerprint of the first."""
    items: list[dict[str, Any]] = [
        {"subscription_id": each, "title": f"fault {request.key[:8]}", "body": f"item {n}", "data": {"n": str(n)}}
        for n, each in enumerate(request.subscriptions)
    ]
    if ttl is not None and int(request.key[0], 16) % 2 == 0:
        items = [{**item, "ttl": ttl} for item in items]
    return _encode(items[0] if request.path == "/messages" else {"messages": items})


def _batch(size: int, shared: Sequence[str], dice: random.Random) -> Request:
    items = [dice.choice(shared) for _ in range(size)]
    refusable = frozenset({dice.randrange(size)}) if dice.random() < REFUSABLE_SHARE else frozenset()
    for index in refusable:
        items[index] = str(uuid.uuid4())
    return Request("/messages/batch", str(uuid.uuid4()), items, refusable=refusable)


def _cut(total: int, sizes: tuple[int, int], dice: random.Random) -> Iterator[int]:
    while total > 0:
        size = min(total, dice.randint(*sizes))
        yield size
        total -= size
