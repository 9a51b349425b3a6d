"""The SDK against the platform it is made for, and against one that fails."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from libs.api.imports import ExportQuery, Import
from libs.api.messages import ConvertBody, MessageBody
from libs.api.subscriptions import SubscriptionBody, SubscriptionQuery
from libs.client import ApiError, AsyncClient, Client, ReceiptQueue, Retries, Unreachable
from libs.ids import new_id
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]


class Flaky:
    """A platform that answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[web.Response | None] = []
        """None: the connection is cut. The last one is given for ever."""
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path_qs, await request.read(), dict(request.headers)))
        told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if told is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=told.status, body=told.body, headers=told.headers)


@pytest.fixture
async def flaky() -> AsyncIterator[Flaky]:
    found = Flaky()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1"
    yield found
    await runner.cleanup()


SENT = b'{"status":"success","data":{"status":"pending","subscription_id":"s","message_id":"m"}}'
BODY = MessageBody(subscription_id="0199a1b2-0000-7000-8000-000000000002", title="Hello")


def failing(status: int, **headers: str) -> web.Response:
    return web.Response(status=status, body=b"<html>gateway</html>", headers=headers)


async def test_what_fails_for_a_moment_is_repeated_as_the_same_request(flaky: Flaky) -> None:
    flaky.answers = [None, failing(503), failing(429, **{"Retry-After": "7"}), web.Response(status=201, body=SENT)]
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with AsyncClient(flaky.url, "key", sleep=sleep) as client:
        sent = await client.messages.send(BODY)
    assert sent.message_id == "m"
    assert len({(body, headers["Idempotency-Key"]) for _, _, body, headers in flaky.asked}) == 1
    assert 0.5 <= pauses[0] <= 1
    assert 1 <= pauses[1] <= 2
    assert pauses[2] == 7


async def test_a_refusal_is_not_repeated(flaky: Flaky) -> None:
    error = b'{"status":"error","error":{"code":"validation_error","message":"No.","details":{"fields":{"a":"b"}}}}'
    flaky.answers = [web.Response(status=422, body=error, headers={"X-Request-Id": "r1"})]
    async with AsyncClient(flaky.url, "key") as client:
        with pytest.raises(ApiError) as raised:
            await client.messages.send(BODY)
    assert (raised.value.code, raised.value.status, raised.value.request_id) == ("validation_error", 422, "r1")
    assert raised.value.details == {"fields": {"a": "b"}}
    assert len(flaky.asked) == 1


async def test_it_gives_up_after_the_last_try(flaky: Flaky) -> None:
    flaky.answers = [failing(502)]
    async with AsyncClient(flaky.url, "key", retries=Retries(attempts=3, first_pause=0.0)) as client:
        with pytest.raises(ApiError, match="502 unexpected_answer"):
            await client.messages.send(BODY)
    assert len(flaky.asked) == 3
    flaky.answers = [None]
    async with AsyncClient(flaky.url, "key", retries=Retries(attempts=2, first_pause=0.0)) as client:
        with pytest.raises(Unreachable):
            await client.messages.send(BODY)


def device(number: int) -> SubscriptionBody:
    return SubscriptionBody(type="iOSPush", token=f"{number:064x}")


def url_of(tenant: Tenant) -> str:
    return f"{str(tenant.session._base_url).rstrip(chr(47))}/api/v1"


async def test_both_clients_send_and_look_up(whole: Whole) -> None:
    shop = await whole.tenant()

    def synchronous() -> str:
        with Client(url_of(shop), shop.api_key) as client:
            made = client.subscriptions.create(device(1))
            sent = client.messages.send(MessageBody(subscription_id=made.subscription_id, title="안녕"))
            assert isinstance(sent.message_id, str)
            return sent.message_id

    message_id = await asyncio.to_thread(synchronous)
    async with AsyncClient(url_of(shop), shop.api_key) as client:
        assert (await client.messages.get(message_id)).title == "안녕"
        with pytest.raises(ApiError, match="resource_not_found"):
            await client.messages.get(new_id())


async def test_a_list_is_walked_page_by_page(whole: Whole) -> None:
    shop = await whole.tenant()
    async with AsyncClient(url_of(shop), shop.api_key) as client:
        made = [(await client.subscriptions.create(device(number))).subscription_id for number in range(7)]
        query = SubscriptionQuery(per_page=3)
        found = [each.id async for each in client.pages(client.subscriptions.list, query)]
    assert found == made[::-1]


async def test_streams_go_up_and_down(whole: Whole) -> None:
    shop = await whole.tenant()

    async def lines() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b'{"type":"iOSPush","token":"%064x"}\n' % number

    async with AsyncClient(url_of(shop), shop.api_key) as client:
        path = f"/subscriptions/imports/{new_id()}"
        assert (await client.upload(path, lines(), "application/x-ndjson", Import)).created == 3
        text = b"".join([piece async for piece in client.download("/subscriptions/export", ExportQuery())])
    assert len(text.splitlines()) == 3


async def test_receipts_wait_until_there_is_a_connection(whole: Whole, tmp_path: Path) -> None:
    shop = await whole.tenant()
    async with AsyncClient(url_of(shop), shop.api_key) as client:
        made = await client.subscriptions.create(device(1))
        sent = await client.messages.send(MessageBody(subscription_id=made.subscription_id, title="Hello"))
        message_id = str(sent.message_id)

        def offline() -> None:
            queue = ReceiptQueue(tmp_path / "receipts.db")
            queue.received(message_id)
            queue.received(message_id)
            queue.converted(message_id, ConvertBody(action="opened"))
            queue.received(new_id())  # somebody else's: refused for good
            nobody = Client("http://127.0.0.1:1/api/v1", "key", retries=Retries(attempts=1))
            with nobody, pytest.raises(Unreachable):
                queue.flush(nobody)
            queue.close()

        def online() -> tuple[int, int]:
            queue = ReceiptQueue(tmp_path / "receipts.db")
            with Client(url_of(shop), shop.api_key) as there:
                sent = queue.flush(there)
            left = len(queue)
            queue.close()
            return sent, left

        await asyncio.to_thread(offline)
        assert await asyncio.to_thread(online) == (2, 0)
        assert (await client.messages.get(message_id)).status == "converted"
