"""Policies of applications at the pipeline: asked for now and then, kept while nobody answers, one tenant's its own."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from libs import policies, rpc
from libs.bus import Bus, Msg
from libs.clock import FakeClock
from libs.config import Nats
from libs.errors import InternalError, ResourceNotFound, ServiceUnavailable
from libs.ids import new_id
from libs.policies import FRESH_SECONDS, PolicyBoard
from libs.policy import Policy
from libs.subjects import rpc as subject_of
from tests.waiting import until

SHOP, OTHER = new_id(), new_id()


class Peer:
    """An application service that knows what it is told."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.known: dict[str, Policy] = {SHOP: Policy(timezone="Asia/Seoul"), OTHER: Policy()}
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.broken = False
        self.broken_for: set[str] = set()

    async def answer(self, request: rpc.GetPolicy) -> rpc.PolicyFound:
        self.asked.append(request.application_id)
        await self.answers.wait()
        if self.broken or request.application_id in self.broken_for:
            raise InternalError
        if request.application_id not in self.known:
            raise ResourceNotFound(id=request.application_id)
        return rpc.PolicyFound(self.known[request.application_id])

    async def serve(self) -> None:
        await self.bus.serve("application", {"policy": (rpc.GetPolicy, self.answer)})


@pytest.fixture
async def peer(nats_settings: Nats) -> AsyncIterator[Peer]:
    bus = await Bus.connect(nats_settings, "application")
    yield (made := Peer(bus))
    made.answers.set()
    await bus.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(bus: Bus, clock: FakeClock) -> PolicyBoard:
    return PolicyBoard(bus, clock)


async def test_it_is_asked_once_for_many_and_again_when_it_is_old(
    peer: Peer, board: PolicyBoard, clock: FakeClock
) -> None:
    await peer.serve()
    found = await asyncio.gather(*(board.of(SHOP) for _ in range(50)), board.of(OTHER))
    assert found == [Policy(timezone="Asia/Seoul")] * 50 + [Policy()]
    assert sorted(peer.asked) == sorted([SHOP, OTHER])
    peer.known[SHOP] = Policy(timezone="Europe/Berlin")
    assert (await board.of(SHOP)).timezone == "Asia/Seoul"
    clock.advance(FRESH_SECONDS)
    assert (await board.of(SHOP)).timezone == "Europe/Berlin"
    assert len(peer.asked) == 3


async def test_an_application_that_is_gone_has_no_rules(peer: Peer, board: PolicyBoard, clock: FakeClock) -> None:
    await peer.serve()
    assert await board.of(new_id()) == Policy()
    assert (await board.of(SHOP)).timezone
    del peer.known[SHOP]
    clock.advance(FRESH_SECONDS)
    assert await board.of(SHOP) == Policy()


async def test_what_is_unknown_so_far_is_waited_for(peer: Peer, board: PolicyBoard, clock: FakeClock) -> None:
    with pytest.raises(ServiceUnavailable) as refused:
        await board.of(SHOP)
    assert refused.value.details["retry_after"] == 1
    await peer.serve()
    clock.advance(1)
    assert (await board.of(SHOP)).timezone == "Asia/Seoul"


async def test_what_is_known_serves_while_the_service_is_away(peer: Peer, board: PolicyBoard, clock: FakeClock) -> None:
    await peer.serve()
    await board.of(SHOP)
    await peer.bus.close()
    for _ in range(3):
        clock.advance(3_600)
        assert (await board.of(SHOP)).timezone == "Asia/Seoul"
    with pytest.raises(ServiceUnavailable):
        await board.of(OTHER)


async def test_a_service_that_hangs_is_waited_for_once(peer: Peer, board: PolicyBoard, clock: FakeClock) -> None:
    await peer.serve()
    await board.of(SHOP)
    peer.answers.clear()
    for _ in range(5):
        clock.advance(FRESH_SECONDS)
        assert (await board.of(SHOP)).timezone == "Asia/Seoul"
    peer.known[SHOP] = Policy(timezone="Europe/Berlin")
    peer.answers.set()

    async def heard_of_it() -> bool:
        clock.advance(FRESH_SECONDS)
        return (await board.of(SHOP)).timezone == "Europe/Berlin"

    await until(heard_of_it, "the change")


@pytest.mark.parametrize("how", ["broken", "of another version"])
async def test_an_answer_that_is_none_leaves_what_is_known(
    peer: Peer, board: PolicyBoard, clock: FakeClock, bus: Bus, how: str
) -> None:
    await peer.serve()
    await board.of(SHOP)
    if how == "broken":
        peer.broken = True
    else:
        await peer.bus.close()
        answer = msgspec.msgpack.encode({"policy": {"quiet_hours": {"start": "24:00"}}})

        async def respond(message: Msg) -> None:
            await message.respond(answer)

        await bus.client.subscribe(subject_of("application", "policy"), cb=respond)
    clock.advance(FRESH_SECONDS)
    assert (await board.of(SHOP)).timezone == "Asia/Seoul"
    with pytest.raises(ServiceUnavailable):
        await board.of(OTHER)


async def test_one_tenants_answer_that_is_none_makes_no_other_wait_for_news(
    peer: Peer, board: PolicyBoard, clock: FakeClock
) -> None:
    await peer.serve()
    await board.of(OTHER)
    peer.broken_for = {SHOP}
    peer.known[OTHER] = Policy(timezone="Europe/Berlin")
    clock.advance(3_600)
    with pytest.raises(ServiceUnavailable):
        await board.of(SHOP)
    assert (await board.of(OTHER)).timezone == "Europe/Berlin"


async def test_who_gives_up_waiting_leaves_the_question_to_the_others(peer: Peer, board: PolicyBoard) -> None:
    await peer.serve()
    peer.answers.clear()
    impatient, patient = asyncio.create_task(board.of(SHOP)), asyncio.create_task(board.of(SHOP))

    async def asked() -> bool:
        return bool(peer.asked)

    await until(asked, "the question")
    impatient.cancel()
    peer.answers.set()
    assert (await patient).timezone == "Asia/Seoul"
    assert peer.asked == [SHOP]


async def test_those_used_last_are_kept(peer: Peer, board: PolicyBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "APPLICATIONS", 2)
    await peer.serve()
    for each in (SHOP, OTHER, new_id(), OTHER):
        await board.of(each)
    assert len(peer.asked) == 3
    await board.of(SHOP)
    assert peer.asked[3:] == [SHOP]
