"""Every documented error of every operation is reached, and says what it says in English and in Korean."""

import pytest

from libs.contract.operations import codes_of
from libs.errors import BY_CODE
from services.ingest.errors import TABLE
from services.ingest.routes import ROUTES
from tests.contract import rest_schema
from tests.contract.rest_recipes import recipe_for
from tests.contract.rest_requests import OPERATIONS, Request, anything, send, working
from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

PAIRS = [(identifier, code) for identifier, route in OPERATIONS.items() for code in codes_of(route)]
NOT_AN_OPERATION = {"method_not_allowed"}
"""Answers of a path to what is no operation."""


@pytest.mark.parametrize(("identifier", "code"), PAIRS, ids=lambda part: part)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_documented_error_is_reached(shared_whole: Whole, identifier: str, code: str) -> None:
    recipe = recipe_for(identifier, code)
    assert recipe is not None, f"{identifier} documents {code}: say in rest_recipes how it is reached"
    for language in ("en", "ko"):
        case = await recipe(shared_whole, await shared_whole.tenant(), identifier)
        with case.trouble:
            reply = await send(case.tenant, case.request.with_headers(Accept_Language=language))
        assert reply.code == code, reply.content
        assert reply.status == TABLE[code].status
        assert reply.body["error"]["message"] == getattr(TABLE[code], language)
        rest_schema.check(identifier, reply)


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
@pytest.mark.asyncio(loop_scope="module")
async def test_a_path_refuses_methods_that_it_does_not_have(shared_whole: Whole, path: str) -> None:
    shop = await shared_whole.tenant()
    has = {route.method for route in ROUTES if route.path == path}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - has:
        for language in ("en", "ko"):
            reply = await send(shop, Request(method=method, path=anything(path)).with_headers(Accept_Language=language))
            assert (reply.status, reply.code) == (405, "method_not_allowed")
            assert reply.body["error"]["message"] == getattr(TABLE["method_not_allowed"], language)
            assert set(reply.headers["Allow"].split(", ")) >= has


def test_every_error_code_is_documented_by_an_operation() -> None:
    documented = {code for _, code in PAIRS}
    assert set(BY_CODE) - documented == NOT_AN_OPERATION


def test_what_names_something_in_its_path_may_not_find_it() -> None:
    for identifier, route in OPERATIONS.items():
        if "{" in route.path:
            assert any(TABLE[code].status == 404 for code in route.errors), identifier


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_says_everywhere_which_request_it_answers(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    for identifier in OPERATIONS:
        request = (await working(identifier, shared_whole, shop)).with_headers(X_Request_Id="mine-1")
        assert (await send(shop, request)).headers["X-Request-Id"] == "mine-1"
