"""What is held about a person is exported whole, and holds nothing of who else had the same device."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import new_id
from services.subscription.export import spans
from services.subscription.queries_export import END, Span
from tests.contract.users_harness import ACTOR, OTHER, SHOP, UsersHarness, users
from tests.databases import Database

ANN, BOB = "ann", "bob"
PHONE = "phone"


@pytest.fixture
async def people(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> AsyncIterator[UsersHarness]:
    async with users(database, key_ring_file, nats_settings, bus) as harness:
        yield harness


# whose time it was ----------------------------------------------------------------------------------------------------


def link(position: int, kind: str, user_id: str) -> dict[str, Any]:
    return {"subscription_id": PHONE, "position": position, "kind": f"user_{kind}", "user_id": user_id}


@pytest.mark.parametrize(
    ("owner", "links", "of_ann", "of_bob"),
    [
        (ANN, [], [(0, END)], []),
        (None, [], [], []),
        (ANN, [link(3, "linked", ANN)], [(0, END)], []),
        (None, [link(3, "linked", ANN), link(7, "unlinked", ANN)], [(0, 7)], []),
        (None, [link(7, "unlinked", ANN)], [(0, 7)], []),
        (BOB, [link(7, "unlinked", ANN), link(8, "linked", BOB)], [(0, 7)], [(8, END)]),
        (BOB, [link(7, "unlinked", ANN), link(12, "linked", BOB)], [(0, 7)], [(8, END)]),
        (
            ANN,
            [
                link(2, "linked", ANN),
                link(4, "unlinked", ANN),
                link(5, "linked", BOB),
                link(6, "unlinked", BOB),
                link(9, "linked", ANN),
            ],
            [(0, 4), (7, END)],
            [(5, 6)],
        ),
    ],
)
def test_time_belongs_to_whom_it_led(
    owner: str | None, links: Sequence[Any], of_ann: list[tuple[int, int]], of_bob: list[tuple[int, int]]
) -> None:
    assert spans(ANN, {PHONE: owner}, links) == [Span(PHONE, *each) for each in of_ann]
    assert spans(BOB, {PHONE: owner}, links) == [Span(PHONE, *each) for each in of_bob]


# the export -----------------------------------------------------------------------------------------------------------


async def disable(people: UsersHarness, subscription_id: str, reason: str) -> None:
    request = rpc.SetStatus(SHOP, subscription_id, ACTOR, "disable", reason=reason)
    await people.bus.call("subscription", "set_status", request, rpc.SubscriptionView)
    request = rpc.SetStatus(SHOP, subscription_id, ACTOR, "enable", act="user")
    await people.bus.call("subscription", "set_status", request, rpc.SubscriptionView)


async def reasons(people: UsersHarness, user_id: str) -> list[str]:
    return [held.event.reason for held in await people.history(user_id) if held.event.reason]


async def test_each_gets_their_own_history_of_a_device_they_shared(people: UsersHarness) -> None:
    phone = await people.device()
    await disable(people, phone, "before ann")
    ann = await people.identify(ANN, phone)
    await disable(people, phone, "ann's")
    bob = await people.identify(BOB, phone)
    await disable(people, phone, "bob's")
    await people.log_out(phone)
    await disable(people, phone, "nobody's yet")
    await people.identify(ANN, phone)
    await disable(people, phone, "ann's again")
    assert await reasons(people, ann.user_id) == ["before ann", "ann's", "nobody's yet", "ann's again"]
    assert await reasons(people, bob.user_id) == ["bob's"]


async def test_the_history_comes_whole_in_small_pages(people: UsersHarness) -> None:
    ids = [await people.device() for _ in range(3)]
    ann = await people.identify(ANN, *ids)
    whole = await people.history(ann.user_id)
    assert len(whole) == 6
    assert [held.event.position for held in whole] == sorted(held.event.position for held in whole)
    for limit in (1, 2, 5, 6):
        assert await people.history(ann.user_id, limit) == whole


async def test_all_subscriptions_come_in_pages_archived_ones_too(people: UsersHarness) -> None:
    ids = [await people.device(tags={"n": str(n)}) for n in range(5)]
    await people.identify(ANN, *ids)
    await people.identify(BOB, await people.device())
    await people.bus.call("subscription", "archive", rpc.ArchiveSubscription(SHOP, ids[1], ACTOR), rpc.Archived)
    for limit in (1, 2, 5, 200):
        pages = await people.export(ANN, limit)
        held = [each for page in pages for each in page.subscriptions]
        assert [each.view.id for each in held] == sorted(ids)
        assert [each.view.id for each in held if each.archived_at_ms is not None] == [ids[1]]
        assert all(page.subscription_ids == sorted(ids) for page in pages)
        assert all(each.view.token_hint and len(each.view.token_hint) == 4 for each in held)


async def test_the_keys_are_those_of_the_persons_messages(people: UsersHarness) -> None:
    phone = await people.device()
    before = (await people.key_for(phone)).key_id
    await people.identify(ANN, phone)
    mine = (await people.key_for(phone)).key_id
    await people.identify(BOB, phone)
    theirs = (await people.key_for(phone)).key_id
    (ann,), (bob,) = await people.export(ANN), await people.export(BOB)
    assert sorted(ann.key_ids) == sorted([before, mine])
    assert bob.key_ids == [theirs]
    assert (ann.subscriptions, ann.subscription_ids) == ([], [phone])


async def test_what_is_unknown_or_of_another_application_is_not_exported(people: UsersHarness) -> None:
    ann = await people.identify(ANN, await people.device())
    for name in (ANN, ann.user_id, "nobody"):
        with pytest.raises(ResourceNotFound):
            await people.export(name, application_id=OTHER)
    for user_id in (ann.user_id, new_id()):
        with pytest.raises(ResourceNotFound):
            await people.history(user_id, application_id=OTHER)
    with pytest.raises(ResourceNotFound):
        await people.history(ANN)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_a_bound(people: UsersHarness, limit: int) -> None:
    ann = await people.identify(ANN)
    with pytest.raises(ValidationFailed):
        await people.export(ANN, limit)
    with pytest.raises(ValidationFailed):
        await people.history(ann.user_id, limit)
