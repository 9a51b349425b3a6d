"""Messages a second: an application's knob, and beside it what goes out, asked of every sender process and summed.

Nobody keeps the sum. Each process answers on `signal.rates`, in no stream, with what it sends and with what a
provider's 429 has left; who asks waits for `ANSWER_SECONDS`, and asks the application service for the knobs.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from libs import telemetry
from libs.ask_all import answers
from libs.bus import Bus, Msg
from libs.errors import ResourceNotFound
from libs.policy import PushChannel
from libs.rpc import GetPolicy, PolicyFound
from libs.subjects import RATES

ANSWER_SECONDS = 0.4
"""A process that is slower to answer is not counted."""
BUSIEST = 20
"""Applications, where all are asked for: of those that send most a process names so many, and who asks gets so many."""
_PROCESSES = 500
_ANSWER_BYTES = 16 * 1024


class Question(msgspec.Struct, frozen=True):
    application_id: str | None = None
    """None: those that send most."""


class Part(msgspec.Struct, frozen=True):
    """One process' part of what an application sends."""

    application_id: str
    achieved: float
    """Messages a second that the provider took, or refused for good."""
    left: float | None = None
    """Messages a second that a provider's 429 has left to all processes together; 0: paused. None: no 429 lately."""


class Report(msgspec.Struct, frozen=True):
    """What one process says."""

    channel: PushChannel
    parts: list[Part]


class Rate(msgspec.Struct, frozen=True):
    """Of one application and channel, all sender processes together; in messages a second."""

    application_id: str
    channel: PushChannel
    limit: float | None
    """The knob. None: as fast as it goes."""
    effective: float | None
    """What it may send now: less than `limit` after a 429; 0: paused, for a minute at most. None: as it goes."""
    achieved: float
    """What went out: the mean of the last seconds."""
    processes: int
    """Of the channel, that answered."""


_Parts = dict[str, dict[PushChannel, list[Part]]]
"""By application and channel."""
_encode = msgspec.msgpack.Encoder().encode
_decode_question = msgspec.msgpack.Decoder(Question).decode
_decode_report = msgspec.msgpack.Decoder(Report).decode
_log = telemetry.logger("rates")


async def answer(bus: Bus, report: Callable[[str | None], Report]) -> None:
    """From now on this process answers who asks. `report`: of an application, or of those that send most."""

    async def respond(question: Msg) -> None:
        try:
            wanted = _decode_question(question.data)
        except msgspec.MsgspecError:
            _log.debug("unreadable_question")
            return
        await question.respond(_encode(report(wanted.application_id)))

    await bus.client.subscribe(RATES, cb=respond)


async def asked(bus: Bus, application_id: str | None = None, seconds: float = ANSWER_SECONDS) -> list[Rate]:
    """Of the channels for which the application has a knob, or on which it sends; of all: those that send most, first.

    An application that is not among the `BUSIEST` of some process lacks that part, where all are asked for. Raises
    `ServiceUnavailable` without NATS or the application service; a process that does not answer is left out.
    """
    reports = await _reports(bus, Question(application_id), seconds)
    parts: _Parts = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for part in report.parts:
            parts[part.application_id][report.channel].append(part)
    wanted = _busiest(parts) if application_id is None else [application_id]
    knobs = await asyncio.gather(*(_knobs(bus, each) for each in wanted))
    answered = [report.channel for report in reports]
    return [
        _rate(one, channel, own.get(channel), parts[one][channel], answered.count(channel))
        for one, own in zip(wanted, knobs, strict=True)
        for channel in sorted(own.keys() | parts[one].keys())
    ]


def _busiest(parts: _Parts) -> list[str]:
    sends = {i: sum(part.achieved for found in channels.values() for part in found) for i, channels in parts.items()}
    return sorted(sends, key=lambda each: (-sends[each], each))[:BUSIEST]


def _rate(application_id: str, channel: PushChannel, knob: float | None, parts: Sequence[Part], processes: int) -> Rate:
    allowed = [rate for rate in (knob, *(part.left for part in parts)) if rate is not None]
    achieved = sum((part.achieved for part in parts), 0.0)
    return Rate(application_id, channel, knob, min(allowed, default=None), achieved, processes)


async def _knobs(bus: Bus, application_id: str) -> dict[PushChannel, float]:
    """An application that is gone has none."""
    try:
        found = await bus.call("application", "policy", GetPolicy(application_id), PolicyFound)
    except ResourceNotFound:
        return {}
    return found.policy.rates


async def _reports(bus: Bus, question: Question, seconds: float) -> list[Report]:
    payloads = await answers(bus, RATES, _encode(question), seconds, _PROCESSES)
    return [report for payload in payloads if (report := _read(payload)) is not None]


def _read(payload: bytes) -> Report | None:
    """None: what another release says in another way."""
    if len(payload) > _ANSWER_BYTES:
        return None
    try:
        return _decode_report(payload)
    except msgspec.MsgspecError:
        _log.debug("unreadable_answer")
        return None
