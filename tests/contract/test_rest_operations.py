"""Every operation does what its documented example says, and answers as its schema says."""

import pytest

from tests.contract import rest_schema
from tests.contract.rest_requests import OPERATIONS, send, working
from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAMED = {"users_export"}
"""Answered piece by piece: nobody knows what it will say before it was said."""
CONDITIONAL = [
    name for name, route in OPERATIONS.items() if route.method == "GET" and route.answer and name not in STREAMED
]


@pytest.mark.parametrize("identifier", OPERATIONS)
async def test_the_documented_example_works(shared_whole: Whole, identifier: str) -> None:
    shop = await shared_whole.tenant()
    reply = await send(shop, await working(identifier, shared_whole, shop))
    route = OPERATIONS[identifier]
    assert reply.status in (route.status, *route.other_statuses), reply.content
    rest_schema.check(identifier, reply)


@pytest.mark.parametrize("identifier", [name for name, route in OPERATIONS.items() if route.method == "POST"])
async def test_a_repetition_under_an_idempotency_key_is_answered_alike(shared_whole: Whole, identifier: str) -> None:
    shop = await shared_whole.tenant()
    request = (await working(identifier, shared_whole, shop)).with_headers(Idempotency_Key="once")
    first, second = await send(shop, request), await send(shop, request)
    pure = OPERATIONS[identifier].repeat == "pure"
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers.get("Idempotency-Replayed") == (None if pure else "true")
    assert second.status == first.status
    if not pure:
        assert second.body == first.body


@pytest.mark.parametrize("identifier", CONDITIONAL)
async def test_what_was_not_changed_is_not_sent_again(shared_whole: Whole, identifier: str) -> None:
    shop = await shared_whole.tenant()
    request = await working(identifier, shared_whole, shop)
    first = await send(shop, request)
    again = await send(shop, request.with_headers(If_None_Match=first.headers["ETag"]))
    assert (again.status, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    rest_schema.check(identifier, again)
