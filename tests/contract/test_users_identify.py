"""Users are identified, move between devices and leave them (SEQ-001); the key says whose a message is (R14)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs import config
from libs.bus import Bus
from libs.errors import ResourceNotFound, SignalError, ValidationFailed
from libs.ids import new_id
from tests.contract.users_harness import ACTOR, OTHER, SHOP, UsersHarness, users
from tests.databases import Database

TOKEN = "ab" * 32


@pytest.fixture
async def people(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> AsyncIterator[UsersHarness]:
    async with users(database, key_ring_file, nats_settings, bus) as harness:
        yield harness


async def sealed_for(people: UsersHarness, subscription_id: str) -> bytes:
    """A message as it would be accepted now."""
    return (await people.key_for(subscription_id)).seal(b"hello", b"bound")


async def count(people: UsersHarness, table: str) -> int:
    return int(await people.admin.fetchval(f"SELECT count(*) FROM subscription.{table}"))


# linking --------------------------------------------------------------------------------------------------------------


async def test_a_new_user_is_made_and_linked(people: UsersHarness) -> None:
    phone, tablet = await people.device(), await people.device()
    made = await people.identify("김 철수/1", phone, tablet)
    assert (made.external_id, made.created) == ("김 철수/1", True)
    assert await people.devices("김 철수/1") == [tablet, phone]
    assert await people.kinds(phone) == ["created", "user_linked"]
    view = await people.view(phone)
    assert (view.user_id, view.external_id) == (made.user_id, "김 철수/1")


async def test_a_known_user_is_found_by_either_id(people: UsersHarness) -> None:
    made = await people.identify("user_1")
    again = await people.identify("user_1", await people.device())
    by_ours = await people.identify(made.user_id, await people.device())
    assert {made.user_id, again.user_id, by_ours.user_id} == {made.user_id}
    assert (again.created, by_ours.created) == (False, False)
    assert len(await people.devices(made.user_id)) == 2
    assert await people.user("user_1") == await people.user(made.user_id)


async def test_identifying_twice_changes_nothing(people: UsersHarness) -> None:
    phone = await people.device()
    await people.identify("user_1", phone)
    keys = await people.key_ids()
    await people.identify("user_1", phone, phone)
    assert await people.kinds(phone) == ["created", "user_linked"]
    assert await people.key_ids() == keys


async def test_with_an_unknown_subscription_nothing_is_half_done(people: UsersHarness) -> None:
    phone = await people.device()
    for unknown in (new_id(), "nothing", await people.device(OTHER)):
        with pytest.raises(ResourceNotFound) as refusal:
            await people.identify("user_1", phone, unknown)
        assert refusal.value.details == {"id": unknown}
    with pytest.raises(ResourceNotFound):
        await people.user("user_1")
    assert await people.kinds(phone) == ["created"]
    assert await count(people, "users") == 0


async def test_a_user_of_another_application_is_another_user(people: UsersHarness) -> None:
    ours = await people.identify("user_1", await people.device())
    theirs = await people.identify("user_1", await people.device(OTHER), application_id=OTHER)
    assert ours.user_id != theirs.user_id
    for name in ("nobody", ours.user_id):
        with pytest.raises(ResourceNotFound):
            await people.user(name, OTHER)
        with pytest.raises(ResourceNotFound):
            await people.devices(name, OTHER)
    with pytest.raises(ResourceNotFound):
        await people.log_out(await people.device(), application_id=OTHER)


@pytest.mark.parametrize("name", ["", "x" * 256, "nul\0"])
async def test_a_name_that_cannot_be_kept_is_refused(people: UsersHarness, name: str) -> None:
    with pytest.raises(ValidationFailed):
        await people.identify(name)
    with pytest.raises(ResourceNotFound):
        await people.user(name)


async def test_too_many_subscriptions_are_refused(people: UsersHarness) -> None:
    with pytest.raises(ValidationFailed):
        await people.identify("user_1", *[new_id() for _ in range(1001)])


async def test_a_thousand_subscriptions_are_linked_at_once(people: UsersHarness) -> None:
    ids = await asyncio.gather(*(people.device() for _ in range(1000)))
    await people.identify("user_1", *ids)
    assert sorted(await people.devices("user_1")) == sorted(ids)


async def test_an_id_that_was_given_is_taken_if_a_user_is_made(people: UsersHarness) -> None:
    chosen = new_id()
    assert (await people.identify("user_1", new_id=chosen)).user_id == chosen
    assert (await people.identify("user_1", new_id=chosen)).user_id == chosen
    await people.erase("user_1", new_id())
    again = await people.identify("user_1", new_id=chosen)
    assert again.created
    assert again.user_id != chosen


async def test_the_status_is_nobody_elses_business(people: UsersHarness) -> None:
    phone = await people.device()
    await people.admin.execute("UPDATE subscription.subscriptions SET status = -2 WHERE id = $1", phone)
    await people.identify("user_1", phone)
    assert (await people.view(phone)).subscription_status == -2
    await people.log_out(phone)
    assert (await people.view(phone)).subscription_status == -2


# moving and leaving ---------------------------------------------------------------------------------------------------


async def test_a_subscription_of_another_user_moves(people: UsersHarness) -> None:
    phone = await people.device()
    first, second = await people.identify("first", phone), await people.identify("second", phone)
    assert (await people.devices("first"), await people.devices("second")) == ([], [phone])
    assert await people.kinds(phone) == ["created", "user_linked", "user_unlinked", "user_linked"]
    rows = await people.admin.fetch(
        "SELECT data ->> 'user_id' AS id, actor FROM subscription.subscription_events "
        "WHERE subscription_id = $1 AND kind <> 'created' ORDER BY position",
        phone,
    )
    assert [tuple(row) for row in rows] == [(each, ACTOR) for each in (first.user_id, first.user_id, second.user_id)]


async def test_logout_makes_a_subscription_anonymous_again(people: UsersHarness) -> None:
    phone, tablet = await people.device(), await people.device()
    await people.identify("user_1", phone, tablet)
    assert await people.log_out(phone) == [phone]
    assert await people.devices("user_1") == [tablet]
    assert (await people.view(phone)).user_id is None
    assert await people.log_out(phone) == [phone]
    assert await people.kinds(phone) == ["created", "user_linked", "user_unlinked"]


async def test_logout_with_an_unknown_subscription_does_nothing(people: UsersHarness) -> None:
    phone = await people.device()
    await people.identify("user_1", phone)
    with pytest.raises(ResourceNotFound):
        await people.log_out(phone, new_id())
    assert await people.devices("user_1") == [phone]


# keys -----------------------------------------------------------------------------------------------------------------


async def test_the_token_is_legible_whoever_has_the_device(people: UsersHarness) -> None:
    phone = await people.device(token=TOKEN)
    for step in ("first", None, "second", "third", None, "first"):
        await (people.log_out(phone) if step is None else people.identify(step, phone))
        assert await people.token(phone) == TOKEN


async def test_messages_from_before_the_user_was_known_are_the_users(people: UsersHarness) -> None:
    phone = await people.device()
    anonymous = await sealed_for(people, phone)
    await people.identify("user_1", phone)
    assert await people.is_readable(anonymous)
    await people.erase("user_1", new_id())
    assert not await people.is_readable(anonymous)


async def test_nothing_of_the_former_user_is_adopted_by_the_next(people: UsersHarness) -> None:
    phone = await people.device()
    await people.identify("first", phone)
    to_first = await sealed_for(people, phone)
    await people.identify("second", phone)
    to_second = await sealed_for(people, phone)
    await people.erase("second", new_id())
    assert await people.is_readable(to_first)
    assert not await people.is_readable(to_second)


async def test_erasing_the_former_user_leaves_the_next_ones_messages_and_device(people: UsersHarness) -> None:
    phone = await people.device(token=TOKEN)
    before = await sealed_for(people, phone)
    await people.identify("first", phone)
    to_first = await sealed_for(people, phone)
    await people.log_out(phone)
    between = await sealed_for(people, phone)
    await people.identify("second", phone)
    to_second = await sealed_for(people, phone)
    await people.erase("first", new_id())
    readable = [await people.is_readable(each) for each in (before, to_first, between, to_second)]
    assert readable == [False, False, True, True]
    assert await people.token(phone) == TOKEN
    await people.erase("second", new_id())
    assert not await people.is_readable(between)
    assert await people.token(phone) is None


async def test_a_message_sealed_for_the_user_is_so_on_every_device(people: UsersHarness) -> None:
    phone, tablet = await people.device(), await people.device()
    await people.identify("user_1", phone, tablet)
    assert (await people.key_for(phone)).key_id == (await people.key_for(tablet)).key_id


# at once --------------------------------------------------------------------------------------------------------------


async def test_a_user_that_many_make_at_once_is_made_once(people: UsersHarness) -> None:
    ids = await asyncio.gather(*(people.device() for _ in range(40)))
    found = await asyncio.gather(*(people.identify("user_1", each) for each in ids))
    assert len({each.user_id for each in found}) == 1
    assert sorted(await people.devices("user_1")) == sorted(ids)
    assert await count(people, "users") == 1


async def test_two_processes_that_identify_the_same_devices_do_not_wait_for_each_other(
    people: UsersHarness, database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    """Crossed users and crossed devices, from two replicas: none is refused, no device is lost, every token legible."""
    ids = await asyncio.gather(*(people.device() for _ in range(6)))
    async with users(database, key_ring_file, nats_settings, bus, lifecycle=False):
        calls = [
            people.identify(f"user_{(n * step) % 5}", *(ids if n % 2 else ids[::-1]))
            for step in (1, 2)
            for n in range(30)
        ]
        leaving = [people.log_out(*ids[n % 3 :]) for n in range(10)]
        results = await asyncio.gather(*calls, *leaving, return_exceptions=True)
    assert [each for each in results if isinstance(each, BaseException)] == []
    owned = [one for n in range(5) for one in await people.devices(f"user_{n}")]
    assert len(owned) == len(set(owned)) <= len(ids)
    assert None not in [await people.token(each) for each in ids]


async def test_identify_against_erasure_leaves_no_orphan(
    people: UsersHarness, database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    """Whoever comes first: what is linked to an erased user is scrubbed, what is not is legible."""
    async with users(database, key_ring_file, nats_settings, bus, lifecycle=False):
        for n in range(8):
            await one_race(people, f"user_{n}")
    left = await people.admin.fetch(
        "SELECT s.id FROM subscription.subscriptions AS s JOIN subscription.users ON users.id = s.user_id "
        "WHERE users.erased_at IS NOT NULL AND (s.archived_at IS NULL OR s.sealed_token <> '')"
    )
    assert left == []


async def one_race(people: UsersHarness, name: str) -> None:
    ids = await asyncio.gather(*(people.device() for _ in range(4)))
    await people.identify(name, *ids[:2])
    results = await asyncio.gather(
        people.identify(name, ids[1], ids[2]),
        people.erase(name, new_id()),
        people.identify(f"{name}_other", ids[0]),
        people.device(user_id=name),
        people.log_out(ids[1]),
        return_exceptions=True,
    )
    refused = [each for each in results if isinstance(each, BaseException)]
    assert all(isinstance(each, ResourceNotFound) for each in refused), refused
    for each in ids:
        try:
            view = await people.view(each)
        except SignalError:
            continue
        assert view.external_id in (None, name, f"{name}_other")
        assert await people.token(each) is not None


async def test_devices_registered_for_a_user_who_is_erased_belong_to_a_new_user(people: UsersHarness) -> None:
    first = await people.identify("user_1", await people.device())
    made = await asyncio.gather(
        *(people.device(user_id="user_1") for _ in range(10)),
        people.erase("user_1", new_id()),
        *(people.device(user_id="user_1") for _ in range(10)),
    )
    ids = [each for each in [*made, await people.device(user_id="user_1")] if isinstance(each, str)]
    living = await people.devices("user_1")
    rows = await people.admin.fetch(
        "SELECT id::text, user_id::text, sealed_token FROM subscription.subscriptions WHERE id = ANY ($1::uuid[])", ids
    )
    for row in rows:
        erased = row["user_id"] == first.user_id
        assert erased == (row["sealed_token"] == b"") == (row["id"] not in living)


async def test_other_applications_go_on_beside_a_refusal(people: UsersHarness) -> None:
    good = await people.device()
    results = await asyncio.gather(
        people.identify("user_1", new_id()),
        people.identify("user_1", good),
        people.identify("user_1", good, application_id=OTHER),
        return_exceptions=True,
    )
    assert [type(each).__name__ for each in results] == ["ResourceNotFound", "UserView", "ResourceNotFound"]
    assert await people.devices("user_1") == [good]
    assert SHOP != OTHER
