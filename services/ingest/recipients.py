"""Recipients of messages, asked from the subscription service: single look-ups together, a batch's in one question."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from libs import rpc
from libs.bus import Bus
from libs.coalesce import Coalescer
from libs.envelope import LANES, Lane
from libs.errors import SignalError


class Reachable(NamedTuple):
    recipient: rpc.Recipient
    wrapped_key: bytes


class _Question(NamedTuple):
    application_id: str
    subscription_id: str


class Recipients:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lanes = {lane: Coalescer[_Question, Reachable | None](self._look_up, concurrency=4) for lane in LANES}

    async def one(self, application_id: str, subscription_id: str, lane: Lane) -> Reachable | None:
        """None: no such subscription of this application. Raises `ServiceUnavailable`."""
        return await self._lanes[lane].submit(_Question(application_id, subscription_id))

    async def many(self, application_id: str, subscription_ids: Sequence[str]) -> dict[str, Reachable]:
        """Those that exist, by id, in one question. Raises `ServiceUnavailable`."""
        question = rpc.Resolve(application_id, list(dict.fromkeys(subscription_ids)))
        resolved = await self._bus.call("subscription", "resolve", question, rpc.Resolved)
        keys = resolved.keys
        # One without a data key was erased meanwhile: there is nobody left to write to.
        return {r.subscription_id: Reachable(r, keys[r.key_id]) for r in resolved.recipients if r.key_id in keys}

    async def _look_up(self, questions: list[_Question]) -> list[Reachable | Exception | None]:
        wanted: dict[str, list[str]] = defaultdict(list)
        for question in questions:
            wanted[question.application_id].append(question.subscription_id)
        answers = await asyncio.gather(*(self._settle(owner, ids) for owner, ids in wanted.items()))
        by_owner = dict(zip(wanted, answers, strict=True))
        return [_pick(by_owner[q.application_id], q.subscription_id) for q in questions]

    async def _settle(self, application_id: str, ids: list[str]) -> dict[str, Reachable] | SignalError:
        """An error is an answer too: one application's must not become another's."""
        try:
            return await self.many(application_id, ids)
        except SignalError as error:
            return error


def _pick(found: dict[str, Reachable] | SignalError, subscription_id: str) -> Reachable | SignalError | None:
    return found if isinstance(found, SignalError) else found.get(subscription_id)
