"""Several connections to one provider: turns, warming up, second tries, replacement."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from services.senders.connections import TIMEOUTS_TO_REPLACE, Connections
from services.senders.transport import NotSent, Response, UnknownOutcome


def no_headers(_: str) -> str | None:
    return None


Step = Response | Exception | asyncio.Future[Response]


class ScriptedTransport:
    """Answers 200, or as the script says."""

    def __init__(self, script: list[Step]) -> None:
        self.script = script
        self.posted: list[str] = []
        self.closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        self.posted.append(url)
        step = self.script.pop(0) if self.script else Response(200, b"", no_headers, self)
        if isinstance(step, Exception):
            raise step
        return await step if isinstance(step, asyncio.Future) else step

    async def close(self) -> None:
        self.closed = True


class Factory:
    def __init__(self, *scripts: list[Step]) -> None:
        self.scripts = list(scripts)
        self.made: list[ScriptedTransport] = []

    def __call__(self) -> ScriptedTransport:
        self.made.append(ScriptedTransport(self.scripts.pop(0) if self.scripts else []))
        return self.made[-1]


async def post(connections: Connections, url: str = "u") -> Response:
    return await connections.post(url, {}, b"")


def proven(response: Response) -> bool:
    return response.status != 403


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_requests_take_turns() -> None:
    factory = Factory()
    connections = Connections(factory, 2, 1.0)
    for number in range(4):
        await post(connections, str(number))
    assert [transport.posted for transport in factory.made] == [["0", "2"], ["1", "3"]]


async def test_what_was_not_sent_is_tried_once_more_at_once() -> None:
    factory = Factory([NotSent()])
    assert (await post(Connections(factory, 1, 1.0))).status == 200
    twice = Factory([NotSent("a"), NotSent("b")])
    with pytest.raises(NotSent, match="b"):
        await post(Connections(twice, 1, 1.0))
    assert len(twice.made[0].posted) == 2


async def test_an_unknown_outcome_is_not_tried_again() -> None:
    factory = Factory([UnknownOutcome("timeout", timed_out=True)])
    with pytest.raises(UnknownOutcome):
        await post(Connections(factory, 1, 1.0))
    assert len(factory.made[0].posted) == 1


async def test_the_first_request_goes_alone_until_an_answer_proves_the_connection() -> None:
    answers: list[asyncio.Future[Response]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
    factory = Factory(list(answers))
    connections = Connections(factory, 1, 5.0, proven)
    tasks = [asyncio.create_task(post(connections, str(number))) for number in range(5)]
    await until(lambda: bool(factory.made) and factory.made[0].posted == ["0"])
    answers[0].set_result(Response(403, b"", no_headers))
    await until(lambda: factory.made[0].posted == ["0", "1"])
    answers[1].set_result(Response(410, b"", no_headers))
    assert [response.status for response in await asyncio.gather(*tasks)] == [403, 410, 200, 200, 200]


async def test_who_waits_too_long_for_that_was_not_sent() -> None:
    silent: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    factory = Factory([silent])
    connections = Connections(factory, 1, 0.05)
    first = asyncio.create_task(post(connections))
    await until(lambda: bool(factory.made))
    with pytest.raises(NotSent, match="no_connection"):
        await post(connections)
    silent.set_result(Response(200, b"", no_headers))
    assert (await first).status == 200


async def test_a_connection_that_only_times_out_is_replaced() -> None:
    factory = Factory([UnknownOutcome("timeout", timed_out=True)] * TIMEOUTS_TO_REPLACE)
    connections = Connections(factory, 1, 1.0)
    for _ in range(TIMEOUTS_TO_REPLACE):
        with pytest.raises(UnknownOutcome):
            await post(connections)
    assert (await post(connections)).status == 200
    assert len(factory.made) == 2


async def test_an_answer_between_timeouts_forgives_them() -> None:
    late = UnknownOutcome("timeout", timed_out=True)
    factory = Factory([late, late, Response(200, b"", no_headers), late, late])
    connections = Connections(factory, 1, 1.0)
    for _ in range(5):
        await asyncio.gather(post(connections), return_exceptions=True)
    assert len(factory.made) == 1


async def test_only_the_connection_that_answered_is_retired() -> None:
    factory = Factory()
    connections = Connections(factory, 2, 1.0)
    first, _ = await post(connections), await post(connections)
    connections.retire(first)
    for number in range(4):
        await post(connections, f"after {number}")
    assert [len(transport.posted) for transport in factory.made] == [1, 3, 2]
    connections.retire(first)
    await post(connections)
    assert len(factory.made) == 3


async def test_closing_ends_every_open_connection() -> None:
    factory = Factory()
    connections = Connections(factory, 3, 1.0)
    await post(connections)
    await connections.close()
    assert [transport.closed for transport in factory.made] == [True]
