"""What belongs to another application does not exist: its ids are answered as ids that nobody has."""

import re
from typing import Any

import pytest

from libs.ids import UUID_PATTERN, new_id
from libs.pg import single_connection
from tests.contract.rest_places import Place, places
from tests.contract.rest_requests import (
    ALSO_CALLED,
    BEFORE,
    IN_FIELD,
    IN_PATH,
    OPERATIONS,
    Maker,
    Reply,
    fresh,
    send,
    working,
)
from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

PLACES = places()
_UUID = re.compile(UUID_PATTERN.strip("^$"))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
_OWN_TO_A_REQUEST = {"date", "x-request-id", "content-length", "etag", "last-modified"}
_KEPT_TABLES = """
SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.columns
WHERE column_name = 'application_id'
  AND (table_schema IN ('subscription', 'templating') OR table_schema = 'lifecycle' AND table_name LIKE 'message%')
"""

_ROWS = "SELECT * FROM {} WHERE application_id = $1"


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_whatever_a_request_names_can_be_made(place: Place) -> None:
    assert place.maker() is not None, "say in rest_requests what makes one, or in rest_places that it names nothing"


@pytest.mark.parametrize(
    ("place", "maker"),
    [(place, maker) for place in PLACES for maker in ALSO_CALLED.get(place.field, (None,))],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_id_of_a_stranger_is_an_unknown_id(shared_whole: Whole, place: Place, maker: Maker | None) -> None:
    stranger = await shared_whole.tenant()
    make = maker or place.maker()
    assert make is not None
    theirs = await make(shared_whole, stranger)
    nobodys = _UUID.sub(new_id(), theirs) if _UUID.search(theirs) else fresh("nobody")
    before = await _all_of(shared_whole, stranger.application_id)
    answers = []
    for name in (theirs, nobodys):
        shop = await shared_whole.tenant()
        reply = await send(shop, place.filled(await working(place.identifier, shared_whole, shop), name))
        answers.append(_without(reply, name))
    assert answers[0] == answers[1]
    assert await _all_of(shared_whole, stranger.application_id) == before
    ours = await send(
        shop, place.filled(await working(place.identifier, shared_whole, shop), await make(shared_whole, shop))
    )
    assert ours.status < 300, f"the recipe proves nothing: {ours.content!r}"


@pytest.mark.parametrize("identifier", [*BEFORE, "emergency_stops_release"])
@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_stranger_has_set_up_is_not_undone(shared_whole: Whole, identifier: str) -> None:
    shop, stranger = await shared_whole.tenant(), await shared_whole.tenant()
    request = await working(identifier, shared_whole, stranger)
    assert (await send(shop, request)).code == "resource_not_found"
    assert (await send(stranger, request)).status == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_of_a_stranger_is_listed(shared_whole: Whole) -> None:
    shop, stranger = await shared_whole.tenant(), await shared_whole.tenant()
    theirs = {await make(shared_whole, stranger) for make in (*IN_PATH.values(), *IN_FIELD.values())} - {"apns"}
    theirs.add(stranger.application_id)
    for identifier, route in OPERATIONS.items():
        if route.method == "GET":
            reply = await send(shop, await working(identifier, shared_whole, shop))
            found = {name for name in theirs if name.encode() in reply.content}
            assert found == set(), identifier


def _without(reply: Reply, name: str) -> tuple[int, str, dict[str, str]]:
    """What tells the answer from others, without times and what was made anew."""
    text = reply.content.decode().replace(name, "<name>")
    headers = {key: value for key, value in reply.headers.items() if key.lower() not in _OWN_TO_A_REQUEST}
    return reply.status, _TIME.sub("<time>", _UUID.sub("<id>", text)), headers


async def _all_of(whole: Whole, application_id: str) -> dict[str, Any]:
    """Every row of an application's subscriptions, users, templates and messages, in any order."""
    async with single_connection(whole.database.admin_dsn) as admin:
        names = [row["name"] for row in await admin.fetch(_KEPT_TABLES)]
        found = {name: await admin.fetch(_ROWS.format(name), application_id) for name in names}
    return {name: sorted(repr(dict(row)) for row in rows) for name, rows in found.items()}
