"""The subscription service, asked over NATS as other services ask it."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.errors import (
    DuplicateSubscription,
    InvalidSubscriptionType,
    InvalidToken,
    ResourceNotFound,
    SignalError,
    ValidationFailed,
)
from libs.ids import new_id
from libs.pg import Connection, single_connection
from libs.seal import KeyRing, associated, key_id_of
from services.subscription import queries, queries_lists, queries_reading, queries_users
from services.subscription.__main__ import start
from services.subscription.settings import Settings
from tests.databases import Database
from tests.in_process import running

SHOP = "01990000-0000-7000-8000-00000000000a"
OTHER = "01990000-0000-7000-8000-00000000000b"
NOBODY = "01990000-0000-7000-8000-00000000000f"
ACTOR = "key:01990000-0000-7000-8000-00000000000c"
TOKEN = "ab" * 31 + "1234"


@pytest.fixture(autouse=True)
async def subscription(database: Database, key_ring_file: Path, nats_settings: config.Nats) -> AsyncIterator[None]:
    settings = Settings(
        config.Database(database.dsn("subscription"), pool=4), config.Keys(str(key_ring_file)), nats_settings
    )
    async with running("subscription", start, settings):
        yield


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    async with single_connection(database.admin_dsn) as connection:
        yield connection


def wish(token: str = TOKEN, application_id: str = SHOP, kind: str = "iOSPush", **more: Any) -> rpc.CreateSubscription:
    return rpc.CreateSubscription(application_id, kind, token, ACTOR, **more)


async def create(bus: Bus, request: rpc.CreateSubscription) -> rpc.SubscriptionView:
    return (await bus.call("subscription", "create", request, rpc.Registered)).view


async def attempt(bus: Bus, request: rpc.CreateSubscription) -> rpc.SubscriptionView | SignalError:
    try:
        return await create(bus, request)
    except SignalError as error:
        return error


async def get(bus: Bus, subscription_id: str, application_id: str = SHOP) -> rpc.SubscriptionView:
    request = rpc.GetSubscription(application_id, subscription_id)
    return await bus.call("subscription", "get", request, rpc.SubscriptionView)


async def resolve(bus: Bus, ids: list[str], application_id: str = SHOP, *keys: bytes) -> rpc.Resolved:
    return await bus.call("subscription", "resolve", rpc.Resolve(application_id, ids, list(keys)), rpc.Resolved)


# registering ----------------------------------------------------------------------------------------------------------


async def test_what_was_created_is_what_is_found(bus: Bus) -> None:
    device = rpc.DeviceInfo(device_model="iPhone 13", country_code="kr", test_type=1, timezone="Asia/Seoul")
    made = await create(bus, wish(user_id="고객-1", device_info=device))
    assert await get(bus, made.id) == made
    assert made.subscription_status == 1
    assert made.subscribed_at_ms == made.created_at_ms
    assert made.external_id == "고객-1"
    assert made.device_info == device
    assert made.token_hint == "1234"


@pytest.mark.parametrize(
    ("kind", "token", "given", "kept"),
    [("iOSPush", TOKEN, None, True), ("Email", "a@example.com", None, False), ("AndroidPush", TOKEN, False, False)],
)
async def test_push_agrees_to_ads_unless_told_otherwise(
    bus: Bus, kind: str, token: str, given: bool | None, kept: bool
) -> None:
    assert (await create(bus, wish(token, kind=kind, ad_consent=given))).ad_consent is kept


async def test_the_token_is_stored_unreadable_and_bound_to_its_row(
    bus: Bus, admin: Connection, key_ring_file: Path
) -> None:
    made = await create(bus, wish())
    everything = await admin.fetchval(
        "SELECT string_agg(s::text, '') || (SELECT string_agg(e::text, '') FROM subscription.subscription_events e) "
        "FROM subscription.subscriptions s"
    )
    assert TOKEN not in everything
    assert TOKEN.encode().hex() not in everything
    found = await resolve(bus, [made.id])
    (recipient,) = found.recipients
    key = KeyRing.load(key_ring_file).unwrap(key_id_of(recipient.sealed_token), found.keys[recipient.key_id])
    bound_to = associated(SHOP, "subscriptions.sealed_token", made.id)
    assert key.open(recipient.sealed_token, bound_to).decode() == TOKEN


async def test_the_history_says_who_registered_and_what_was_agreed_to(bus: Bus, admin: Connection) -> None:
    made = await create(bus, wish(ad_consent=True))
    (row,) = await admin.fetch("SELECT * FROM subscription.subscription_events")
    assert (str(row["subscription_id"]), str(row["application_id"])) == (made.id, SHOP)
    assert (row["kind"], row["actor"]) == ("created", ACTOR)
    assert row["data"] == {"status": 1, "ad_consent": True, "consent_given": True}


@pytest.mark.parametrize("again", [TOKEN, TOKEN.upper()])
async def test_a_token_is_registered_once_and_the_refusal_names_its_owner(bus: Bus, again: str) -> None:
    made = await create(bus, wish())
    with pytest.raises(DuplicateSubscription) as refused:
        await create(bus, wish(again))
    assert refused.value.details == {"subscription_id": made.id}


async def test_the_same_token_of_another_type_or_application_is_another(bus: Bus) -> None:
    made = [await create(bus, wish()), await create(bus, wish(kind="AndroidPush"))]
    made.append(await create(bus, wish(application_id=OTHER)))
    assert len({view.id for view in made}) == 3


async def test_of_simultaneous_registrations_of_one_token_one_wins_and_leaves_one_history(
    bus: Bus, admin: Connection
) -> None:
    answers = await asyncio.gather(*(attempt(bus, wish()) for _ in range(40)))
    (made,) = [answer for answer in answers if isinstance(answer, rpc.SubscriptionView)]
    refused = [answer for answer in answers if isinstance(answer, DuplicateSubscription)]
    assert len(refused) == 39
    assert {error.details["subscription_id"] for error in refused} == {made.id}
    assert await admin.fetchval("SELECT count(*) FROM subscription.subscription_events") == 1
    assert await admin.fetchval("SELECT count(*) FROM subscription.data_keys") == 0


async def test_an_archived_token_may_be_registered_again(bus: Bus, admin: Connection) -> None:
    made = await create(bus, wish())
    await admin.execute("UPDATE subscription.subscriptions SET archived_at = now()")
    assert (await create(bus, wish())).id != made.id
    with pytest.raises(ResourceNotFound):
        await get(bus, made.id)
    assert (await resolve(bus, [made.id])).recipients == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (wish(kind="Pigeon"), InvalidSubscriptionType),
        (wish(""), InvalidToken),
        (wish("a\0b"), InvalidToken),
        (wish("a" * 9000), InvalidToken),
        (wish(user_id=""), ValidationFailed),
        (wish(user_id="a\0b"), ValidationFailed),
        (wish(user_id="x" * 256), ValidationFailed),
        (wish(device_info=rpc.DeviceInfo(device_model="\0")), ValidationFailed),
        (wish(application_id="nonsense"), ValidationFailed),
    ],
    ids=["type", "no token", "NUL", "long token", "no user", "NUL user", "long user", "NUL device", "application"],
)
async def test_what_cannot_be_kept_is_refused_and_harms_no_neighbour(
    bus: Bus, admin: Connection, request_: rpc.CreateSubscription, error: type[SignalError]
) -> None:
    refused, *kept = await asyncio.gather(attempt(bus, request_), *(attempt(bus, wish(f"{n:064x}")) for n in range(5)))
    assert isinstance(refused, error)
    assert all(isinstance(answer, rpc.SubscriptionView) for answer in kept)
    assert await admin.fetchval("SELECT count(*) FROM subscription.subscriptions") == 5


async def test_what_only_postgres_refuses_fails_alone(bus: Bus, admin: Connection) -> None:
    await admin.execute("ALTER TABLE subscription.subscriptions ADD CHECK (token_hint <> '0007')")
    answers = await asyncio.gather(*(attempt(bus, wish(f"{n:064x}")) for n in range(20)))
    failed = [n for n, answer in enumerate(answers) if isinstance(answer, SignalError)]
    assert failed == [7]


# users ----------------------------------------------------------------------------------------------------------------


async def test_an_unknown_user_is_made_and_found_again_by_both_names(bus: Bus) -> None:
    first = await create(bus, wish(f"{1:064x}", user_id="customer-1"))
    by_external_id = await create(bus, wish(f"{2:064x}", user_id="customer-1"))
    by_our_id = await create(bus, wish(f"{3:064x}", user_id=first.user_id))
    assert first.user_id == by_external_id.user_id == by_our_id.user_id
    assert by_our_id.external_id == "customer-1"


async def test_the_user_id_of_another_application_is_just_a_name(bus: Bus) -> None:
    theirs = await create(bus, wish(application_id=OTHER, user_id="customer-1"))
    ours = await create(bus, wish(user_id=theirs.user_id))
    assert ours.user_id != theirs.user_id
    assert ours.external_id == theirs.user_id


async def test_simultaneous_registrations_of_a_new_user_make_one_user_with_one_key(bus: Bus, admin: Connection) -> None:
    made = await asyncio.gather(*(create(bus, wish(f"{n:064x}", user_id=f"u{n % 2}")) for n in range(30)))
    assert len({view.user_id for view in made}) == 2
    assert await admin.fetchval("SELECT count(*) FROM subscription.users") == 2
    assert await admin.fetchval("SELECT count(*) FROM subscription.data_keys") == 2  # the persons'; rows hold their own


# reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [NOBODY, "nonsense", NOBODY + "\n"])
async def test_an_unknown_subscription_is_not_found(bus: Bus, unknown: str) -> None:
    with pytest.raises(ResourceNotFound) as refused:
        await get(bus, unknown)
    assert refused.value.details == {"id": unknown}
    assert await resolve(bus, [unknown]) == rpc.Resolved([], {})


async def test_another_applications_subscription_is_not_found(bus: Bus) -> None:
    theirs = await create(bus, wish(application_id=OTHER))
    with pytest.raises(ResourceNotFound):
        await get(bus, theirs.id)
    key = (await resolve(bus, [theirs.id], OTHER)).recipients[0].key_id
    assert await resolve(bus, [theirs.id], SHOP, key) == rpc.Resolved([], {})


async def test_recipients_carry_what_sending_needs(bus: Bus) -> None:
    device = rpc.DeviceInfo(country_code="kr", test_type=2)
    tester = await create(bus, wish(device_info=device))
    plain = await create(bus, wish("opaque", kind="AndroidPush", token_kind="fid", ad_consent=False))
    found = await resolve(bus, [tester.id, plain.id, NOBODY])
    by_id = {recipient.subscription_id: recipient for recipient in found.recipients}
    assert by_id.keys() == {tester.id, plain.id}
    assert set(found.keys) == {recipient.key_id for recipient in found.recipients}
    assert {recipient.user_id for recipient in found.recipients} == {None}
    ios, android = by_id[tester.id], by_id[plain.id]
    assert (ios.type, ios.status, ios.test, ios.country, ios.ad_consent) == ("iOSPush", 1, True, "KR", True)
    assert (android.test, android.country, android.ad_consent, android.token_kind) == (False, None, False, "fid")
    assert (ios.token_version, ios.registered_at_ms) == (1, tester.created_at_ms)


async def test_a_user_identified_later_is_the_subject_and_the_tokens_own_key_comes_along(
    bus: Bus, admin: Connection
) -> None:
    known = await create(bus, wish(f"{1:064x}", user_id="customer-1"))
    anonymous = await create(bus, wish(f"{2:064x}"))
    (before,) = (await resolve(bus, [anonymous.id])).recipients
    await admin.execute("UPDATE subscription.subscriptions SET user_id = $1 WHERE id = $2", known.user_id, anonymous.id)
    found = await resolve(bus, [known.id, anonymous.id])
    assert len({recipient.key_id for recipient in found.recipients}) == 1
    assert before.key_id == key_id_of(before.sealed_token) == uuid.UUID(anonymous.id).bytes
    assert set(found.keys) == {before.key_id, uuid.UUID(known.id).bytes, found.recipients[0].key_id}
    assert {recipient.user_id for recipient in found.recipients} == {known.user_id}


async def test_keys_of_old_ciphertexts_are_found_and_destroyed_ones_are_absent(bus: Bus, admin: Connection) -> None:
    views = [await create(bus, wish(f"{n:064x}")) for n in range(3)]
    keys = {r.subscription_id: r.key_id for r in (await resolve(bus, [v.id for v in views])).recipients}
    gone, old, current = (keys[view.id] for view in views)
    await admin.execute("UPDATE subscription.subscriptions SET wrapped_key = NULL WHERE id = $1", uuid.UUID(bytes=gone))
    found = await resolve(bus, [views[0].id, views[2].id], SHOP, old, gone, b"short", uuid.uuid4().bytes)
    assert set(found.keys) == {old, current}
    assert len(found.recipients) == 2


async def test_a_thousand_recipients_come_in_one_answer(bus: Bus) -> None:
    views = await asyncio.gather(*(create(bus, wish(f"{n:064x}")) for n in range(1000)))
    found = await resolve(bus, [view.id for view in views])
    assert len(found.recipients) == len(found.keys) == 1000


STATEMENTS = {
    queries: (
        "LOCK_SUBSCRIPTIONS",
        "LOCK_REGISTERED",
        "READ_LOCKED",
        "FIND_BY_TOKEN",
        "FIND_TAKEN_IDS",
        "CHANGE_SUBSCRIPTIONS",
    ),
    queries_reading: ("RESOLVE", "RESOLVE_USERS", "FIND_KEYS", "FIND_SECRETS", "GET_SUBSCRIPTIONS"),
    queries_users: ("FIND_PERSONS", "HOLD_PERSONS"),
    queries_lists: (
        *(f"{what}_BY_{index}" for what in ("PAGE", "COUNT") for index in ("APPLICATION", "USER", "TYPE", "STATUS")),
        "HISTORY",
        "IS_KNOWN",
    ),
}


@pytest.mark.parametrize(
    "text",
    [pytest.param(getattr(module, name), id=name) for module, names in STATEMENTS.items() for name in names],
)
async def test_no_statement_reads_a_whole_table_even_if_planned_while_it_was_empty(
    admin: Connection, text: str
) -> None:
    await admin.execute("VACUUM ANALYZE")
    await admin.execute(queries.INDEXES_ONLY)
    await admin.execute("SET plan_cache_mode = force_generic_plan")
    parameters = ["NULL"] * len(set(re.findall(r"\$\d+", text)))
    await admin.execute(f"PREPARE asked AS {text}")
    plan = await admin.fetch(f"EXPLAIN EXECUTE asked ({', '.join(parameters)})")
    assert [line[0] for line in plan if "Index" in line[0]]
    assert not [line[0] for line in plan if "Seq Scan" in line[0]]


async def test_a_question_without_bounds_is_refused(bus: Bus) -> None:
    with pytest.raises(ValidationFailed):
        await resolve(bus, [new_id()] * 5001)
