"""Faults on the way to a provider: what a transport says about a request must be true of the server (LIBRARIES.md)."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from h2.errors import ErrorCodes

from services.senders.transport import Http2Transport, NotSent, Transport, UnknownOutcome
from tests.contract.h2_server import Answer, H2Server, Request
from tests.contract.pyqwest_transport import PyqwestTransport

MakeTransport = Callable[[bytes | None, float], Transport]
IMPLEMENTATIONS: list[MakeTransport] = [Http2Transport, PyqwestTransport]

REQUESTS = 200
AT_ONCE = 50
STRIKE = 80
"""The request at which the fault happens."""


@dataclass
class Told:
    """What the transport said of each request, by path."""

    answered: set[str] = field(default_factory=set)
    not_sent: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


@asynccontextmanager
async def link(
    make: MakeTransport, directory: Path, timeout: float = 10.0
) -> AsyncIterator[tuple[H2Server, Transport]]:
    async with H2Server(lambda _: Answer(), directory) as server:
        transport = make(server.ca_file.read_bytes(), timeout)
        yield server, transport
        await transport.close()


async def send(transport: Transport, url: str, path: str, told: Told) -> None:
    try:
        response = await transport.post(url + path, {"apns-topic": "com.example"}, b"{}")
    except NotSent:
        told.not_sent.add(path)
    except UnknownOutcome:
        told.unknown.add(path)
    else:
        assert response.status == 200
        told.answered.add(path)


async def flow(transport: Transport, server: H2Server, requests: int = REQUESTS) -> Told:
    """Send `requests`, `AT_ONCE` at a time; then prove what must hold whatever happened."""
    told = Told()
    paths = iter([f"/3/device/{number}" for number in range(requests)])

    async def worker() -> None:
        for path in paths:
            await send(transport, server.url, path, told)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    processed = Counter(request.path for request in server.requests)
    assert len(told.answered) + len(told.not_sent) + len(told.unknown) == requests
    assert told.answered <= processed.keys()
    assert told.not_sent.isdisjoint(processed), "called not sent, yet processed"
    assert max(processed.values()) == 1, "a request was repeated silently"
    return told


def at(number: int, act: Callable[[Request], Answer | None]) -> Callable[[Request], Answer | None]:
    """Answer every request, but `act` on the one of that number."""
    seen = 0

    def handle(request: Request) -> Answer | None:
        nonlocal seen
        seen += 1
        return act(request) if seen == number else Answer()

    return handle


async def works_again(transport: Transport, server: H2Server) -> None:
    server.handler = lambda _: Answer()
    response = await transport.post(f"{server.url}/again", {}, b"{}")
    assert response.status == 200


@pytest.fixture(params=IMPLEMENTATIONS, ids=["pyreqwest", "pyqwest"])
def make(request: pytest.FixtureRequest) -> MakeTransport:
    chosen: MakeTransport = request.param
    return chosen


async def test_a_burst_on_a_cold_transport_opens_one_connection_or_two(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):
        told = await flow(transport, server)
        assert len(told.answered) == REQUESTS
        assert len(server.connections) <= 2


async def test_goaway_that_drains_costs_nothing(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):

        def bow_out(request: Request) -> Answer:
            request.connection.goaway()
            return Answer()

        server.handler = at(STRIKE, bow_out)
        assert len((await flow(transport, server)).answered) == REQUESTS
        assert len(server.connections) > 1


async def test_requests_above_the_last_stream_of_a_goaway_are_sent_again(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):

        def bow_out_here(request: Request) -> Answer:
            request.connection.goaway(last_stream_id=request.connection.highest_served)
            return Answer()

        server.handler = at(STRIKE, bow_out_here)
        told = await flow(transport, server)
        assert not told.unknown
        assert len(told.answered) + len(told.not_sent) == REQUESTS


@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR])
async def test_goaway_that_closes_unanswered_is_unknown(make: MakeTransport, tmp_path: Path, code: ErrorCodes) -> None:
    async with link(make, tmp_path) as (server, transport):

        def leave(request: Request) -> None:
            request.connection.goaway(code)
            request.connection.close()

        server.handler = at(STRIKE, leave)
        told = await flow(transport, server)
        assert told.unknown
        await works_again(transport, server)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_cut_in_flight_is_unknown(make: MakeTransport, tmp_path: Path, how: str) -> None:
    async with link(make, tmp_path) as (server, transport):

        def cut(request: Request) -> None:
            getattr(request.connection, how)()

        server.handler = at(STRIKE, cut)
        told = await flow(transport, server)
        assert told.unknown
        await works_again(transport, server)


async def test_a_provider_that_never_answers_is_unknown(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path, timeout=1.0) as (server, transport):
        server.handler = lambda _: None
        told = await flow(transport, server, requests=AT_ONCE)
        assert len(told.unknown) == AT_ONCE
        await works_again(transport, server)


async def test_a_lowered_stream_limit_is_obeyed(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):

        def narrow(request: Request) -> Answer:
            request.connection.limit_streams(5)
            return Answer()

        server.handler = at(STRIKE, narrow)
        told = await flow(transport, server)
        assert not told.unknown
        assert len(told.answered) > REQUESTS - AT_ONCE


async def test_a_refused_stream_is_sent_again_or_called_not_sent(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):
        refused = iter([False] * STRIKE + [True] * AT_ONCE)
        server.refuse = lambda _: next(refused, False)
        told = await flow(transport, server)
        assert not told.unknown
        assert sum(connection.refused for connection in server.connections) == AT_ONCE


async def test_no_connection_is_not_sent(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):
        await server.stop()
        told = Told()
        await send(transport, server.url, "/x", told)
        assert told.not_sent == {"/x"}


async def test_an_untrusted_certificate_is_not_sent(make: MakeTransport, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with H2Server(lambda _: Answer(), tmp_path) as server, H2Server(lambda _: Answer(), other) as stranger:
        transport = make(stranger.ca_file.read_bytes(), 10.0)
        told = Told()
        await send(transport, server.url, "/x", told)
        await transport.close()
        assert told.not_sent == {"/x"}
        assert not server.requests


async def test_a_redirect_is_not_followed(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):
        server.handler = lambda _: Answer(307, headers={"location": f"{server.url}/elsewhere"})
        response = await transport.post(f"{server.url}/x", {}, b"{}")
        assert response.status == 307
        assert [request.path for request in server.requests] == ["/x"]


async def test_headers_and_body_arrive_as_given(make: MakeTransport, tmp_path: Path) -> None:
    async with link(make, tmp_path) as (server, transport):
        server.handler = lambda _: Answer(429, b'{"reason":"x"}', {"retry-after": "7", "apns-id": "i"})
        response = await transport.post(
            f"{server.url}/x", {"apns-topic": "com.example", "apns-id": "a"}, b"\xed\x95\x9c"
        )
        assert (response.status, response.body, response.header("Apns-Id")) == (429, b'{"reason":"x"}', "i")
        assert response.retry_after(0) == 7.0
        [request] = server.requests
        assert request.body == b"\xed\x95\x9c"
        assert (request.headers["apns-topic"], request.headers["apns-id"]) == ("com.example", "a")


# What the product's transport promises beyond that -------------------------------------------------------------------


async def test_a_silent_connection_is_given_up_for_a_new_one(tmp_path: Path) -> None:
    async with link(Http2Transport, tmp_path, timeout=3.0) as (server, transport):

        def vanish(request: Request) -> None:
            request.connection.black_hole()

        server.handler = at(1, vanish)
        told = Told()
        await send(transport, server.url, "/lost", told)
        assert told.unknown == {"/lost"}
        await works_again(transport, server)
        assert len(server.connections) == 2


async def test_a_handshake_that_hangs_is_not_sent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        transport = Http2Transport(None, 1.0)
        told = Told()
        await send(transport, f"https://127.0.0.1:{deaf.getsockname()[1]}", "/x", told)
        assert told.not_sent == {"/x"}
        await transport.close()


async def test_errors_do_not_name_the_device(tmp_path: Path) -> None:
    async with link(Http2Transport, tmp_path) as (server, transport):
        server.handler = at(1, lambda request: request.connection.reset())
        with pytest.raises(UnknownOutcome) as lost:
            await transport.post(f"{server.url}/3/device/secret", {}, b"{}")
        assert "secret" not in repr(lost.value)
        assert lost.value.__suppress_context__
        with pytest.raises(ValueError, match="no request"):
            await transport.post(f"{server.url}/secret", {"apns-topic": "a\nb"}, b"{}")
