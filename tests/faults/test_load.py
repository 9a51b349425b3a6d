"""The client on a made-up gateway that commits, then forgets to answer: its ledger tells what it was told."""

import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from tests.faults.ledger import Client
from tests.faults.load import Flow, LoadEnded, flowing
from tests.faults.plan import Shape, Subscriptions, plan

MESSAGES = 300


class Gateway:
    """Accepts, and answers every third request with 503, half of those after it has committed."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.created: Counter[str] = Counter()
        self.subscriptions: set[str] = set()
        self._requests = 0

    async def subscribe(self, _: web.Request) -> web.Response:
        subscription = str(uuid.uuid4())
        self.subscriptions.add(subscription)
        return web.json_response({"data": {"subscription_id": subscription}}, status=201)

    async def send(self, request: web.Request) -> web.Response:
        body = await request.json()
        key = request.headers["Idempotency-Key"]
        self._requests += 1
        if self._requests % 6 == 0:
            return web.json_response({}, status=503)
        replayed = key in self.answers
        if not replayed:
            self.answers[key] = self._accept(body)
        if self._requests % 3 == 0:
            return web.json_response({}, status=503)
        headers = {"Idempotency-Replayed": "true"} if replayed else {}
        return web.Response(body=self.answers[key], status=200 if "messages" in body else 201, headers=headers)

    def _accept(self, body: dict[str, object]) -> bytes:
        items = body.get("messages", [body])
        assert isinstance(items, list)
        results = [self._item(item["subscription_id"]) for item in items]
        return msgspec.json.encode({"data": {"results": results} if "messages" in body else results[0]})

    def _item(self, subscription: str) -> dict[str, object]:
        if subscription not in self.subscriptions:
            return {"error": {"code": "resource_not_found"}}
        self.created[subscription] += 1
        return {"message_id": str(uuid.uuid4()), "status": "pending"}


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    made_up = Gateway()
    application = web.Application()
    application.router.add_post("/api/v1/subscriptions", made_up.subscribe)
    application.router.add_post("/api/v1/messages", made_up.send)
    application.router.add_post("/api/v1/messages/batch", made_up.send)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield made_up, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_ledger_agrees_with_the_gateway(gateway: tuple[Gateway, str]) -> None:
    made_up, url = gateway
    client = Client()
    flow = Flow(url, "key", client, Shape(MESSAGES, 0.1), random.Random())
    async with flowing(flow):
        await flow.reached(0.2)
        await flow.volley()

    given_up = client.given_up()
    assert {request.state for request in client.requests} <= {"answered", "given_up"}
    assert all(request.fragile and not request.accepted for request in given_up)
    assert all(set(request.refused) == request.refusable for request in client.requests)
    assert any(request.replayed for request in client.requests)
    told = len(client.told())
    untold = sum(made_up.created[request.subscriptions[0]] for request in given_up)
    assert told + untold == sum(made_up.created.values())


async def test_what_breaks_the_load_is_raised() -> None:
    flow = Flow("http://127.0.0.1:1", "key", Client(), Shape(MESSAGES, 0.1), random.Random())
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        async with flowing(flow):
            await flow.reached(0.5)


async def test_waiting_for_more_than_there_is_ends(gateway: tuple[Gateway, str]) -> None:
    flow = Flow(gateway[1], "key", Client(), Shape(MESSAGES, 0.1), random.Random())
    with pytest.raises(LoadEnded):
        async with flowing(flow):
            await flow.reached(1.1)


def test_the_plan_has_all_messages_and_a_subscription_for_each_fragile_request() -> None:
    shape = Shape(20_000, 1.0)
    subscriptions = Subscriptions([f"shared{n}" for n in range(50)], [f"own{n}" for n in range(shape.fragile)])
    requests = plan(shape, subscriptions, random.Random())

    assert sum(len(request.subscriptions) for request in requests) == shape.messages
    fragile = [request for request in requests if request.fragile]
    assert len({request.subscriptions[0] for request in fragile}) == len(fragile) == shape.fragile
    assert max(len(request.subscriptions) for request in requests) <= 1_000
    assert len({request.key for request in requests}) == len(requests)
