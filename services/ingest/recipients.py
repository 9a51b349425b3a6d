"""Recipients of messages, subscriptions or persons, asked from the subscription service: single look-ups together, a
batch's in one question."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from libs import rpc
from libs.bus import Bus
from libs.coalesce import Coalescer
from libs.envelope import LANES, Lane
from libs.errors import SignalError

F = TypeVar("F")


class Reachable(NamedTuple):
    recipient: rpc.Recipient
    wrapped_key: bytes


class _Question(NamedTuple):
    application_id: str
    name: str
    """Of a subscription or of a person."""


class Recipients:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lanes = {lane: Coalescer[_Question, Reachable | None](self._look_up, concurrency=4) for lane in LANES}
        self._persons = {
            lane: Coalescer[_Question, list[Reachable] | None](self._look_up_persons, concurrency=4) for lane in LANES
        }

    async def one(self, application_id: str, subscription_id: str, lane: Lane) -> Reachable | None:
        """None: no such subscription of this application. Raises `ServiceUnavailable`."""
        return await self._lanes[lane].submit(_Question(application_id, subscription_id))

    async def of_person(self, application_id: str, name: str, lane: Lane) -> list[Reachable] | None:
        """Their subscriptions, the most recently active first: the active ones, unless there is none.

        None: no such user of this application. Raises `ServiceUnavailable`.
        """
        return await self._persons[lane].submit(_Question(application_id, name))

    async def of_persons(self, application_id: str, names: Sequence[str]) -> dict[str, list[Reachable]]:
        """Of those that exist, by name, in one question. Raises `ServiceUnavailable`."""
        question = rpc.ResolveUsers(application_id, list(dict.fromkeys(names)))
        resolved = await self._bus.call("subscription", "resolve_users", question, rpc.UsersResolved)
        keys = resolved.keys
        return {
            name: [Reachable(r, keys[r.key_id]) for r in found if r.key_id in keys]
            for name, found in resolved.recipients.items()
        }

    async def many(self, application_id: str, subscription_ids: Sequence[str]) -> dict[str, Reachable]:
        """Those that exist, by id, in one question. Raises `ServiceUnavailable`."""
        question = rpc.Resolve(application_id, list(dict.fromkeys(subscription_ids)))
        resolved = await self._bus.call("subscription", "resolve", question, rpc.Resolved)
        keys = resolved.keys
        # One without a data key was erased meanwhile: there is nobody left to write to.
        return {r.subscription_id: Reachable(r, keys[r.key_id]) for r in resolved.recipients if r.key_id in keys}

    async def _look_up(self, questions: list[_Question]) -> list[Reachable | Exception | None]:
        return await _by_owner(questions, self.many)

    async def _look_up_persons(self, questions: list[_Question]) -> list[list[Reachable] | Exception | None]:
        return await _by_owner(questions, self.of_persons)


async def _by_owner(
    questions: list[_Question], ask: Callable[[str, list[str]], Awaitable[dict[str, F]]]
) -> list[F | Exception | None]:
    """One question an application, all at the same time."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        wanted[question.application_id].append(question.name)
    answers = await asyncio.gather(*(_settle(ask(owner, names)) for owner, names in wanted.items()))
    by_owner = dict(zip(wanted, answers, strict=True))
    found: list[F | Exception | None] = []
    for question in questions:
        answer = by_owner[question.application_id]
        found.append(answer if isinstance(answer, SignalError) else answer.get(question.name))
    return found


async def _settle(answer: Awaitable[dict[str, F]]) -> dict[str, F] | SignalError:
    """An error is an answer too: one application's must not become another's."""
    try:
        return await answer
    except SignalError as error:
        return error
