"""What `Connections` promises, seen from the provider's side of real connections."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

from services.senders.connections import Connections
from services.senders.transport import Http2Transport
from tests.contract.h2_server import Answer, H2Server, Request


async def test_a_new_connection_carries_one_stream_until_it_is_proven(tmp_path: Path) -> None:
    """As APNs does: one stream, and more only after the provider token was accepted."""
    async with H2Server(lambda _: Answer(), tmp_path, max_streams=1) as server:

        def widen(request: Request) -> Answer:
            request.connection.limit_streams(1000)
            return Answer()

        server.handler = widen
        ca = server.ca_file.read_bytes()
        connections = Connections(lambda: Http2Transport(ca, 10.0), 1, 10.0)

        def post(number: int) -> Awaitable[object]:
            return connections.post(f"{server.url}/{number}", {}, b"{}")

        await asyncio.gather(*(post(number) for number in range(100)))
        await connections.close()
        assert len(server.requests) == 100
        assert sum(connection.refused for connection in server.connections) == 0


async def test_requests_in_flight_survive_the_retirement_of_their_connection(tmp_path: Path) -> None:
    async with H2Server(lambda _: Answer(), tmp_path) as server:
        ca = server.ca_file.read_bytes()
        connections = Connections(lambda: Http2Transport(ca, 10.0), 1, 10.0)
        first = await connections.post(f"{server.url}/first", {}, b"{}")
        held: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        server.handler = held.set_result
        waiting = asyncio.create_task(connections.post(f"{server.url}/held", {}, b"{}"))
        request = await held
        connections.retire(first)
        del first
        server.handler = lambda _: Answer()
        await connections.post(f"{server.url}/next", {}, b"{}")
        request.connection.answer(request, Answer())
        assert (await waiting).status == 200
        assert len(server.connections) == 2
        await connections.close()
