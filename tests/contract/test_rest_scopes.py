"""Each scope alone may do what `proto/scopes.md` says, and nothing else."""

import pytest

from libs.contract.operations import EVERY_SCOPE
from tests.contract.rest_requests import OPERATIONS, as_client, send, working
from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("scope", EVERY_SCOPE)
@pytest.mark.parametrize("identifier", OPERATIONS)
async def test_a_scope_alone_is_enough_where_the_table_says_so(
    shared_whole: Whole, identifier: str, scope: str
) -> None:
    route, shop = OPERATIONS[identifier], await shared_whole.tenant()
    key = await shared_whole.with_key(shop.application_id, [scope])
    request = await (
        as_client(identifier, shared_whole, shop, key) if scope == "client" else working(identifier, shared_whole, shop)
    )
    reply = await send(key, request)
    if scope in route.scopes:
        assert reply.status in (route.status, *route.other_statuses), reply.content
    else:
        assert (reply.status, reply.code) == (403, "permission_denied")
        assert reply.body["error"]["details"] == {"scopes": sorted(route.scopes)}
