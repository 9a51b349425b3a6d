"""How the gateway takes an import apart: parts under way at once, whatever becomes of them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from libs import errors, rpc
from libs.ids import new_id
from services.ingest.auth import Caller
from services.ingest.exchange import Call, Gateway
from services.ingest.imports import IN_FLIGHT, put
from services.ingest.records import MAX_LINES

OWNER = "0199a1b2-0000-7000-8000-000000000001"


class Service:
    """Answers `begin_import`; parts wait for `go`, and then fail."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.under_way = asyncio.Semaphore(0)
        self.parts = 0
        self.left = 0

    async def call(self, _: str, verb: str, request: Any, *__: Any, **___: Any) -> Any:
        if verb == "begin_import":
            return rpc.ImportBegun({})
        assert verb == "import_part"
        self.parts += 1
        self.under_way.release()
        try:
            await self.go.wait()
        finally:
            self.left += 1
        raise errors.ServiceUnavailable(service="subscription", retry_after=1)


def import_of(stream: AsyncIterator[bytes]) -> Call[None]:
    return Call(
        request_id="r",
        caller=Caller(OWNER, "key:k", frozenset({"manage"})),
        language="en",
        method="PUT",
        path="/",
        parameters={"id": new_id()},
        headers={"Content-Type": "application/x-ndjson"},
        input=None,
        body=b"",
        stream=stream,
    )


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def gateway(service: Service) -> Gateway:
    nothing = cast("Any", None)
    return Gateway(cast("Any", service), nothing, nothing, nothing, nothing, nothing)


@pytest.fixture
async def unseen() -> list[dict[str, Any]]:
    """What the loop complains of, such as failures that nobody asked for."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


async def lines(parts: int) -> AsyncIterator[bytes]:
    for _ in range(parts):
        yield b"{}\n" * MAX_LINES


async def test_only_so_many_are_under_way_and_all_failures_are_seen(
    service: Service, gateway: Gateway, unseen: list[dict[str, Any]]
) -> None:
    asked = asyncio.create_task(put(gateway, import_of(lines(100))))
    for _ in range(IN_FLIGHT):
        await service.under_way.acquire()
    service.go.set()
    with pytest.raises(errors.ServiceUnavailable):
        await asked
    assert service.parts == service.left == IN_FLIGHT
    del asked
    gc.collect()
    await asyncio.sleep(0)
    assert unseen == []


async def test_none_is_left_behind_when_the_body_breaks_off(service: Service, gateway: Gateway) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"{}\n" * MAX_LINES
        await service.under_way.acquire()
        raise errors.InvalidRequest(reason="the body did not arrive whole")

    with pytest.raises(errors.InvalidRequest):
        await put(gateway, import_of(broken()))
    assert service.parts == service.left == 1
