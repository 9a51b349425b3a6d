"""Asking sender processes for what they send: who answers, who does not, and what is not an answer."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest

from libs.bus import Bus, Msg
from libs.config import Nats
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.policy import Policy, PushChannel
from libs.rates import BUSIEST, Part, Rate, Report, answer, asked
from libs.rpc import GetPolicy, PolicyFound
from libs.subjects import RATES
from tests.contract.streams_harness import APPLICATION

OTHER = "01990000-0000-7000-8000-00000000000b"
SECONDS = 0.5


@pytest.fixture
async def knobs(bus: Bus) -> dict[str, dict[PushChannel, float]]:
    """The application service; who is not in it is gone."""
    found: dict[str, dict[PushChannel, float]] = {APPLICATION: {}, OTHER: {}}

    async def policy(request: GetPolicy) -> PolicyFound:
        if request.application_id not in found:
            raise ResourceNotFound(application_id=request.application_id)
        return PolicyFound(Policy(rates=found[request.application_id]))

    await bus.serve("application", {"policy": (GetPolicy, policy)})
    return found


@contextlib.asynccontextmanager
async def sender(settings: Nats, channel: PushChannel, parts: Mapping[str, Part]) -> AsyncIterator[None]:
    """One process, on a connection of its own, that sends what it is told."""
    bus = await Bus.connect(settings, "sender")

    def report(application_id: str | None) -> Report:
        if application_id is None:
            return Report(channel, list(parts.values()))
        return Report(channel, [parts[application_id]] if application_id in parts else [])

    await answer(bus, report)
    await bus.client.flush()  # who asks is connected on its own
    await bus.client.flush()
    try:
        yield
    finally:
        await bus.close()


def sends(achieved: float, application_id: str = APPLICATION, left: float | None = None) -> dict[str, Part]:
    return {application_id: Part(application_id, achieved, left)}


async def test_a_knob_without_a_sender_is_told_at_once_and_nothing_is_achieved(
    bus: Bus, knobs: dict[str, dict[PushChannel, float]]
) -> None:
    knobs[APPLICATION] = {"fcm": 5.0, "apns": 100.0}
    began = time.monotonic()
    assert await asked(bus, APPLICATION, seconds=10) == [
        Rate(APPLICATION, "apns", 100.0, 100.0, 0.0, 0),
        Rate(APPLICATION, "fcm", 5.0, 5.0, 0.0, 0),
    ]
    assert time.monotonic() - began < 2, "the server says that there is nobody to wait for"


async def test_processes_add_up_each_for_its_channel(
    bus: Bus, nats_settings: Nats, knobs: dict[str, dict[PushChannel, float]]
) -> None:
    knobs[APPLICATION] = {"apns": 100.0}
    async with (
        sender(nats_settings, "apns", sends(40.5)),
        sender(nats_settings, "apns", sends(50.0) | sends(7.0, OTHER)),
        sender(nats_settings, "apns", {}),
        sender(nats_settings, "fcm", sends(3.0)),
    ):
        ours = [Rate(APPLICATION, "apns", 100.0, 100.0, 90.5, 3), Rate(APPLICATION, "fcm", None, None, 3.0, 1)]
        theirs = [Rate(OTHER, "apns", None, None, 7.0, 3)]
        assert await asked(bus, APPLICATION, SECONDS) == ours
        assert await asked(bus, OTHER, SECONDS) == theirs
        assert await asked(bus, seconds=SECONDS) == ours + theirs, "those that send most, first"


@pytest.mark.parametrize(
    ("knob", "left", "effective"),
    [(100.0, 50.0, 50.0), (100.0, 200.0, 100.0), (None, 50.0, 50.0), (100.0, 0.0, 0.0)],
)
async def test_a_429_that_one_process_knows_of_counts(
    bus: Bus,
    nats_settings: Nats,
    knobs: dict[str, dict[PushChannel, float]],
    knob: float | None,
    left: float,
    effective: float,
) -> None:
    if knob is not None:
        knobs[APPLICATION] = {"apns": knob}
    async with (
        sender(nats_settings, "apns", sends(20.0, left=left)),
        sender(nats_settings, "apns", sends(20.0)),
    ):
        (found,) = await asked(bus, APPLICATION, SECONDS)
    assert (found.limit, found.effective, found.achieved) == (knob, effective, 40.0)


async def test_of_all_only_those_that_send_most_are_told(
    bus: Bus, nats_settings: Nats, knobs: dict[str, dict[PushChannel, float]]
) -> None:
    first = {f"a{number:02}": Part(f"a{number:02}", float(number)) for number in range(BUSIEST)}
    second = {f"b{number:02}": Part(f"b{number:02}", number + 0.5) for number in range(BUSIEST)}
    async with sender(nats_settings, "apns", first), sender(nats_settings, "apns", second):
        found = await asked(bus, seconds=SECONDS)
    assert len(found) == BUSIEST
    assert [rate.achieved for rate in found] == [19.5 - 0.5 * number for number in range(BUSIEST)]
    assert {rate.limit for rate in found} == {None}, "applications that are gone have no knob"


async def test_what_is_no_answer_is_left_out(
    bus: Bus, nats_settings: Nats, knobs: dict[str, dict[PushChannel, float]]
) -> None:
    answers = (
        b"\xc1",
        msgspec.msgpack.encode({"channel": "pigeon", "parts": []}),
        msgspec.msgpack.encode({"channel": "apns", "parts": [], "padding": "x" * 20_000}),
        msgspec.msgpack.encode(Report("apns", [Part(OTHER, 9.0)])),
        msgspec.msgpack.encode(
            {"channel": "apns", "parts": [{"application_id": APPLICATION, "achieved": 1, "new": 2}]}
        ),
    )

    async def wrong(question: Msg) -> None:
        for each in answers:
            await question.respond(each)

    await bus.client.subscribe(RATES, cb=wrong)
    assert await asked(bus, APPLICATION, SECONDS) == [Rate(APPLICATION, "apns", None, None, 1.0, 2)]


async def test_what_is_no_question_is_not_answered_and_the_next_one_is(
    bus: Bus, nats_settings: Nats, knobs: dict[str, dict[PushChannel, float]]
) -> None:
    async with sender(nats_settings, "apns", sends(1.0)):
        await bus.client.publish(RATES, b"\xc1")
        await bus.client.publish(RATES, b"")
        assert len(await asked(bus, APPLICATION, SECONDS)) == 1


async def test_many_may_ask_at_once(bus: Bus, nats_settings: Nats, knobs: dict[str, dict[PushChannel, float]]) -> None:
    async with sender(nats_settings, "apns", sends(1.0)):
        found = await asyncio.gather(*(asked(bus, APPLICATION, 0.5) for _ in range(50)))
    assert found == [[Rate(APPLICATION, "apns", None, None, 1.0, 1)]] * 50


async def test_without_the_application_service_nobody_can_say(bus: Bus) -> None:
    with pytest.raises(ServiceUnavailable):
        await asked(bus, APPLICATION, SECONDS)


async def test_without_nats_nobody_can_say(nats_settings: Nats) -> None:
    bus = await Bus.connect(nats_settings, "test")
    await bus.close()
    with pytest.raises(ServiceUnavailable):
        await asked(bus, APPLICATION, SECONDS)
