"""Who registers again is brought up to date, never added twice; and what a `client` key may touch."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from libs import config, rpc
from libs.bus import Bus
from libs.errors import (
    AuthenticationFailed,
    DuplicateSubscription,
    InvalidToken,
    PermissionDenied,
    ResourceNotFound,
    ValidationFailed,
)
from libs.ids import new_id
from services.subscription.edit import sealed
from tests.contract.subscription_harness import ACTOR, MAIL, OTHER, PHONE, SHOP, Service, apns, outcome, serving
from tests.databases import Database

pytest_plugins = ["tests.contract.subscription_fixtures"]


# registering again ----------------------------------------------------------------------------------------------------


async def test_an_upsert_makes_what_is_not_there_and_updates_what_is(service: Service) -> None:
    first = await service.register(upsert=True, tags={"a": "1"})
    again = await service.register(
        upsert=True, tags={"b": "2"}, device_info=rpc.DeviceInfo(app_version="2"), ad_consent=False, user_id="u1"
    )
    assert (first.created, again.created, again.view.id) == (True, False, first.view.id)
    assert again.view.tags == {"a": "1", "b": "2"}
    assert again.view.device_info.app_version == "2"
    assert (again.view.ad_consent, again.view.external_id) == (False, "u1")
    assert await service.get(first.view.id) == again.view
    assert await service.rows() == 1


async def test_an_upsert_that_brings_nothing_new_writes_no_history(service: Service) -> None:
    made = await service.make(upsert=True)
    again = await service.make(upsert=True)
    assert again == made
    assert await service.kinds(made.id) == ["created"]


async def test_addresses_that_are_written_otherwise_are_the_same(service: Service) -> None:
    await service.make(PHONE, "SMS")
    with pytest.raises(DuplicateSubscription):
        await service.make("+82 10-1234-5678", "SMS")
    made = await service.make(PHONE, "KakaoTalk")
    assert await service.token(made.id) == PHONE


@pytest.mark.parametrize(("kind", "token"), [("SMS", "0101"), ("Email", "no"), ("WebPush", "{}"), ("iOSPush", "x")])
async def test_each_type_checks_its_tokens(service: Service, kind: str, token: str) -> None:
    with pytest.raises(InvalidToken):
        await service.make(token, kind)


async def test_the_same_token_heals_an_error_but_no_refusal(service: Service) -> None:
    dead, gone = await service.make(apns(1)), await service.make(apns(2))
    await service.update(dead.id, subscription_status=-14)
    await service.set_status(gone.id, "disable")
    healed = await service.make(apns(1), upsert=True)
    assert (healed.subscription_status, (await service.resolve(dead.id)).recipients[0].token_version) == (1, 2)
    assert (await service.make(apns(2), upsert=True)).subscription_status == -2
    assert await service.kinds(dead.id) == ["created", "error", "token_updated"]


async def test_double_opt_in_waits(service: Service) -> None:
    made = await service.make(MAIL, "Email", double_opt_in=True)
    assert (made.subscription_status, made.subscribed_at_ms) == (-98, None)
    with pytest.raises(ValidationFailed):
        await service.make(apns(1), double_opt_in=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tags": {"": "x"}},
        {"tags": {"x" * 129: "x"}},
        {"tags": {"x": "y" * 257}},
        {"tags": {"x": "\0"}},
        {"tags": {str(n): "" for n in range(101)}},
        {"installation_id": ""},
        {"installation_id": "x" * 129},
    ],
    ids=str,
)
async def test_what_is_too_large_is_refused(service: Service, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        await service.make(**wrong)


# installations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsert", [False, True])
async def test_a_known_installation_has_its_token_replaced(service: Service, upsert: bool) -> None:
    made = await service.make(apns(1), installation_id="i1")
    again = await service.register(apns(2), installation_id="i1", upsert=upsert)
    assert (again.created, again.view.id) == (False, made.id)
    assert await service.token(made.id) == apns(2)
    assert (await service.resolve(made.id)).recipients[0].token_version == 2
    assert await service.rows() == 1
    assert (await service.register(apns(1))).created  # the old token is nobody's


async def test_an_installation_of_another_type_or_application_is_another(service: Service) -> None:
    await service.make(apns(1), installation_id="i1")
    assert (await service.register("fcm-token", "AndroidPush", installation_id="i1")).created
    assert (await service.register(apns(2), installation_id="i1", application_id=OTHER)).created


async def test_a_restored_backup_takes_the_token_over_and_the_history_says_why(service: Service) -> None:
    old = await service.make(apns(1), installation_id="i1")
    phone = await service.make(apns(2), installation_id="i2")
    restored = await service.register(apns(2), installation_id="i1", upsert=True)
    assert (restored.view.id, await service.rows()) == (old.id, 1)
    with pytest.raises(ResourceNotFound):
        await service.get(phone.id)
    (last, *_) = (await service.events(phone.id)).events
    assert (last.kind, last.reason, last.data) == ("archived", "token_taken_over", {"by": old.id})
    assert (await service.events(old.id)).events[0].reason == "reinstalled"


async def test_who_had_unsubscribed_stays_so_when_another_row_takes_the_token(service: Service) -> None:
    installed = await service.make(apns(1), installation_id="i1")
    leaving = await service.make(apns(2))
    await service.set_status(leaving.id, "disable")
    assert (await service.make(apns(2), installation_id="i1")).subscription_status == -2
    assert await service.kinds(installed.id) == ["created", "token_updated", "status_changed"]


async def test_who_agreed_to_no_ads_agrees_to_none_when_another_row_takes_the_token(service: Service) -> None:
    await service.make(apns(1), installation_id="i1", night_consent=True)
    await service.make(apns(2), ad_consent=False)
    taken = await service.make(apns(2), installation_id="i1")
    assert (taken.ad_consent, taken.night_consent) == (False, False)
    assert (await service.make(apns(2), ad_consent=True, upsert=True)).ad_consent  # who is asked may say so


async def test_an_address_that_waits_for_its_confirmation_does_so_wherever_it_goes(service: Service) -> None:
    mine = await service.make("mine@example.com", "Email", installation_id="i1")
    await service.make(MAIL, "Email", double_opt_in=True)
    assert (await service.make(MAIL, "Email", installation_id="i1")).subscription_status == -98
    assert (await service.set_status(mine.id, "confirm")).subscription_status == 1


async def test_a_new_address_waits_for_its_confirmation_where_that_is_asked_for(service: Service) -> None:
    mine = await service.make("mine@example.com", "Email", installation_id="i1", double_opt_in=True)
    await service.set_status(mine.id, "confirm")
    same = await service.make("mine@example.com", "Email", installation_id="i1", double_opt_in=True, upsert=True)
    assert same.subscription_status == 1
    other = await service.make(MAIL, "Email", installation_id="i1", double_opt_in=True, upsert=True)
    assert (other.id, other.subscription_status) == (mine.id, -98)
    await service.set_status(mine.id, "disable")
    third = await service.make("third@example.com", "Email", installation_id="i1", double_opt_in=True, upsert=True)
    assert third.subscription_status == -2


async def test_a_token_that_is_known_gets_the_installation_that_comes_with_it(service: Service) -> None:
    made = await service.make(apns(1))
    assert (await service.make(apns(1), installation_id="i1", upsert=True)).installation_id == "i1"
    assert (await service.make(apns(2), installation_id="i1")).id == made.id


async def test_of_simultaneous_registrations_of_one_installation_one_row_is_left(service: Service) -> None:
    answers = await asyncio.gather(
        *(outcome(service.register(apns(n % 7), installation_id="i1", upsert=True)) for n in range(60))
    )
    assert {answer.view.id for answer in answers} == {answers[0].view.id}
    assert sum(answer.created for answer in answers) == 1
    assert await service.rows() == 1


async def test_two_processes_agree_on_one_row_too(
    service: Service, database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    async with serving(database, key_ring_file, nats_settings, bus):
        answers = await asyncio.gather(
            *(
                outcome(service.register(apns(n % 5), installation_id=f"i{n % 5}", upsert=True, user_id=f"u{n % 3}"))
                for n in range(200)
            )
        )
    assert all(isinstance(answer, rpc.Registered) for answer in answers)
    assert await service.rows() == 5


# repetition -----------------------------------------------------------------------------------------------------------


async def test_a_repeated_request_finds_its_own_work(service: Service) -> None:
    chosen = new_id()
    first = await service.register(new_id=chosen)
    again = await service.register(new_id=chosen)
    assert first.view.id == again.view.id == chosen
    assert first.created
    assert again.created
    assert await service.kinds(chosen) == ["created"]


async def test_an_id_that_was_used_for_another_token_is_not_used_again(service: Service) -> None:
    chosen = new_id()
    await service.register(apns(1), new_id=chosen)
    await service.archive(chosen)
    assert (await service.register(apns(1), new_id=chosen)).view.id != chosen


async def test_what_was_registered_is_there_after_a_restart(
    database: Database, key_ring_file: Path, nats_settings: config.Nats, bus: Bus
) -> None:
    async with serving(database, key_ring_file, nats_settings, bus) as before:
        made = await before.make(apns(1), installation_id="i1")
    async with serving(database, key_ring_file, nats_settings, bus) as after:
        assert await after.get(made.id) == made
        assert (await after.make(apns(2), installation_id="i1")).id == made.id
        assert await after.token(made.id) == apns(2)


# client keys ----------------------------------------------------------------------------------------------------------


async def verify(service: Service, secret: str, application_id: str = SHOP) -> str:
    request = rpc.VerifySecret(application_id, hashlib.sha256(secret.encode()).digest())
    return (await service.bus.call("subscription", "verify_secret", request, rpc.Bearer)).subscription_id


async def test_a_client_is_given_a_secret_that_is_kept_as_a_hash(service: Service) -> None:
    made = await service.register(client=True)
    assert made.secret is not None
    assert (made.secret[:3], len(made.secret)) == ("ss_", 39)
    assert await verify(service, made.secret) == made.view.id
    assert await service.column(made.view.id, "last_active_at") is not None
    everything = await service.admin.fetchval("SELECT string_agg(s::text, '') FROM subscription.subscriptions s")
    assert made.secret not in everything
    assert hashlib.sha256(made.secret.encode()).hexdigest() not in everything
    assert (await service.register(apns(2))).secret is None


async def test_a_secret_is_good_for_its_application_and_until_its_subscription_is_archived(service: Service) -> None:
    made = await service.register(client=True)
    assert made.secret is not None
    for secret, application_id in ((made.secret, OTHER), (made.secret + "x", SHOP), ("", SHOP), (made.secret, "x")):
        with pytest.raises(AuthenticationFailed):
            await verify(service, secret, application_id)
    await service.archive(made.view.id)
    with pytest.raises(AuthenticationFailed):
        await verify(service, made.secret)


@pytest.mark.parametrize("upsert", [False, True])
@pytest.mark.parametrize(
    ("kind", "token"), [("Email", MAIL), ("SMS", PHONE), ("KakaoTalk", PHONE), ("InAppMessage", "x")]
)
async def test_a_client_cannot_touch_an_address_that_is_there(
    service: Service, kind: str, token: str, upsert: bool
) -> None:
    made = await service.make(token, kind)
    with pytest.raises(PermissionDenied):
        await service.register(token, kind, client=True, upsert=upsert, tags={"evil": "1"})
    assert await service.get(made.id) == made


async def test_a_client_that_knows_the_token_of_a_device_gets_a_new_secret(service: Service) -> None:
    first = await service.register(client=True)
    again = await service.register(client=True, upsert=True)
    assert (again.view.id, again.created) == (first.view.id, False)
    assert first.secret is not None
    assert again.secret is not None
    assert await verify(service, again.secret) == first.view.id
    with pytest.raises(AuthenticationFailed):
        await verify(service, first.secret)


async def test_a_client_with_the_secret_keeps_it(service: Service) -> None:
    first = await service.register(client=True, installation_id="i1")
    again = await service.register(apns(2), client=True, installation_id="i1", bearer=first.view.id, upsert=True)
    assert (again.view.id, again.secret) == (first.view.id, None)
    assert first.secret is not None
    assert await verify(service, first.secret) == first.view.id


async def test_an_installation_id_alone_proves_nothing(service: Service) -> None:
    made = await service.register(client=True, installation_id="i1")
    with pytest.raises(PermissionDenied):
        await service.register(apns(2), client=True, installation_id="i1", upsert=True)
    assert await service.token(made.view.id) == apns(1)


async def test_a_client_cannot_take_another_ones_address_over(service: Service) -> None:
    mine = await service.register("mine@example.com", "Email", client=True, installation_id="i1")
    theirs = await service.make(MAIL, "Email")
    with pytest.raises(PermissionDenied):
        await service.register(MAIL, "Email", client=True, installation_id="i1", bearer=mine.view.id, upsert=True)
    assert await service.get(theirs.id) == theirs


async def test_a_repeated_request_of_a_client_is_given_a_secret_that_works(service: Service) -> None:
    chosen = new_id()
    await service.register(client=True, new_id=chosen)
    again = await service.register(client=True, new_id=chosen)
    assert again.secret is not None
    assert await verify(service, again.secret) == chosen


# users ----------------------------------------------------------------------------------------------------------------


async def test_an_upsert_under_a_user_hands_them_what_was_sent_before(service: Service) -> None:
    made = await service.make(apns(1), upsert=True)
    (before,) = (await service.resolve(made.id)).recipients
    linked = await service.make(apns(1), upsert=True, user_id="u1")
    found = await service.resolve(made.id, keys=[before.key_id])
    (after,) = found.recipients
    assert (after.user_id, linked.external_id) == (linked.user_id, "u1")
    assert before.key_id not in (after.key_id, after.sealed_token[:16])
    assert {before.key_id, after.key_id, after.sealed_token[:16]} <= set(found.keys)
    assert await service.token(made.id) == apns(1)
    owner = await service.admin.fetchval("SELECT user_id::text FROM subscription.data_keys WHERE id = $1", made.id)
    assert owner == linked.user_id
    assert await service.kinds(made.id) == ["created", "user_linked"]


async def test_the_next_user_of_a_device_takes_it_over(service: Service) -> None:
    made = await service.make(user_id="u1")
    second = await service.make(user_id="u2", upsert=True)
    assert (second.id, second.external_id) == (made.id, "u2")
    assert await service.kinds(made.id) == ["created", "user_unlinked", "user_linked"]
    assert await service.token(made.id) == apns(1)


async def test_a_token_is_sealed_under_its_subscriptions_own_key_whoever_the_user_is(service: Service) -> None:
    made = await service.make(user_id="u1")
    (recipient,) = (await service.resolve(made.id)).recipients
    assert recipient.sealed_token[:16].hex() == made.id.replace("-", "")
    assert recipient.key_id != recipient.sealed_token[:16]


async def as_before(service: Service, made: rpc.SubscriptionView) -> rpc.Recipient:
    """Makes a row of before: its key lies in data_keys, and is its user's."""
    (now,) = (found := await service.resolve(made.id)).recipients
    old = sealed(service.ring.unwrap(now.key_id, found.keys[now.key_id]), SHOP, made.id, apns(1))
    change = "UPDATE subscription.subscriptions SET wrapped_key = NULL, key_id = $2, sealed_token = $3 WHERE id = $1"
    await service.admin.execute(change, made.id, now.key_id.hex(), old)
    return now


async def test_tokens_sealed_under_a_users_key_as_before_still_work(service: Service) -> None:
    made = await service.make(user_id="u1")
    now = await as_before(service, made)
    assert await service.token(made.id) == apns(1)
    await service.update(made.id, token=apns(2))
    assert await service.token(made.id) == apns(2)
    (after,) = (await service.resolve(made.id)).recipients
    assert after.key_id == now.key_id != after.sealed_token[:16]


@pytest.mark.parametrize("logged_out", [True, False])
async def test_a_users_key_stays_theirs_when_the_next_one_takes_a_device_of_before_over(
    service: Service, logged_out: bool
) -> None:
    made = await service.make(user_id="u1")
    theirs = await as_before(service, made)
    if logged_out:
        await service.bus.call("subscription", "logout", rpc.LogOut(SHOP, [made.id], ACTOR), rpc.LoggedOut)
    await service.make(user_id="u2", upsert=True)
    owner = await service.admin.fetchval(
        "SELECT user_id::text FROM subscription.data_keys WHERE id = $1", theirs.key_id.hex()
    )
    assert owner == made.user_id
    erase = rpc.EraseUser(SHOP, "u1", ACTOR, new_id())
    await service.bus.call("subscription", "erase_user", erase, rpc.Erasure)
    assert theirs.key_id not in (await service.resolve(made.id, keys=[theirs.key_id])).keys
    assert await service.token(made.id) == apns(1)


async def test_a_batch_is_answered_in_order_each_for_itself(service: Service) -> None:
    answers = await asyncio.gather(
        outcome(service.register(apns(1))),
        outcome(service.register("nonsense")),
        outcome(service.register(apns(1))),
        outcome(service.register(apns(1), upsert=True)),
    )
    made, bad, duplicate, upserted = answers
    assert isinstance(bad, InvalidToken)
    assert isinstance(duplicate, DuplicateSubscription)
    assert upserted.view.id == made.view.id == duplicate.details["subscription_id"]
    assert (await service.events(made.view.id)).events[0].actor == ACTOR
