"""Lists of subscriptions, their histories, and the recipients of messages to a person."""

import asyncio
import re

import pytest

from libs import rpc
from libs.errors import ValidationFailed
from services.subscription import lists, queries_lists
from tests.contract.subscription_harness import MAIL, NOBODY, OTHER, PHONE, SHOP, Service, apns

pytest_plugins = ["tests.contract.subscription_fixtures"]


async def ids(service: Service, **wanted: object) -> list[str]:
    return [view.id for view in (await service.page(**wanted)).subscriptions]  # type: ignore[arg-type]


async def walk(service: Service, limit: int, **wanted: object) -> list[str]:
    """Every page, by cursor."""
    found: list[str] = []
    before: str | None = None
    while True:
        page = await service.page(limit=limit, before=before, **wanted)  # type: ignore[arg-type]
        found += [view.id for view in page.subscriptions]
        before = page.next_before
        if before is None:
            return found


async def test_lists_go_backwards_in_time_and_hold_what_a_look_up_answers(service: Service) -> None:
    made = [await service.make(apns(n), user_id="u1" if n else None) for n in range(3)]
    await service.make(apns(9), application_id=OTHER)
    page = await service.page()
    assert page.subscriptions == made[::-1]
    assert (page.total, page.total_is_estimate, page.next_before) == (3, False, None)


async def test_archived_ones_are_not_listed(service: Service) -> None:
    made = await service.make(apns(1))
    await service.archive(made.id)
    assert await service.page() == rpc.SubscriptionPage([], 0)


@pytest.fixture
async def mixed(service: Service) -> dict[str, str]:
    made = {
        "push": await service.make(apns(1), user_id="u1", tags={"vip": "1"}),
        "left": await service.make(apns(2), tags={"vip": "1", "old": ""}),
        "mail": await service.make(MAIL, "Email", user_id="u1"),
        "phone": await service.make(PHONE, "SMS", tags={"old": "1"}),
    }
    await service.set_status(made["left"].id, "disable")
    return {name: view.id for name, view in made.items()}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"type": "iOSPush"}, ["left", "push"]),
        ({"type": "iOSPush", "status": 1}, ["push"]),
        ({"type": "iOSPush", "status": -2}, ["left"]),
        ({"type": "Email", "status": -2}, []),
        ({"status": -2}, ["left"]),
        ({"status": 1}, ["phone", "mail", "push"]),
        ({"status": 40_000}, []),
        ({"user_id": "u1"}, ["mail", "push"]),
        ({"user_id": "u1", "type": "Email"}, ["mail"]),
        ({"user_id": "u1", "tag": "vip"}, ["push"]),
        ({"user_id": "nobody"}, []),
        ({"user_id": NOBODY}, []),
        ({"tag": "vip"}, ["left", "push"]),
        ({"tag": "vip", "status": -2}, ["left"]),
        ({"tag": "vip", "type": "SMS"}, []),
        ({"tag": "old", "type": "SMS"}, ["phone"]),
        ({"type": "Pigeon"}, []),
        ({"type": "\0"}, []),
        ({"application_id": OTHER}, []),
        ({"application_id": OTHER, "user_id": "u1"}, []),
        ({"application_id": "nonsense"}, []),
    ],
    ids=str,
)
async def test_each_filter_finds_what_it_says(
    service: Service, mixed: dict[str, str], wanted: dict[str, object], names: list[str]
) -> None:
    page = await service.page(**wanted)  # type: ignore[arg-type]
    by_id = {identifier: name for name, identifier in mixed.items()}
    assert [by_id[view.id] for view in page.subscriptions] == names
    assert (page.total, page.total_is_estimate, page.next_before) == (len(names), False, None)


async def test_a_user_is_found_by_our_id_too(service: Service, mixed: dict[str, str]) -> None:
    owner = (await service.get(mixed["push"])).user_id
    assert await ids(service, user_id=owner) == [mixed["mail"], mixed["push"]]


@pytest.mark.parametrize("wanted", [{}, {"type": "iOSPush"}, {"tag": "t"}, {"status": 1}, {"user_id": "u"}], ids=str)
async def test_pages_are_whole_by_number_and_by_cursor(service: Service, wanted: dict[str, object]) -> None:
    made = await asyncio.gather(*(service.make(apns(n), tags={"t": "1"}, user_id="u") for n in range(11)))
    expected = sorted((each.id for each in made), reverse=True)
    assert await walk(service, 4, **wanted) == expected
    assert [each for page in range(3) for each in await ids(service, limit=4, offset=4 * page, **wanted)] == expected


async def test_a_cursor_loses_and_repeats_nothing_while_others_register_and_leave(service: Service) -> None:
    made = [(await service.make(apns(n))).id for n in range(9)]
    page = await service.page(limit=3)
    for n in range(9, 14):
        await service.make(apns(n))
    await service.archive(page.subscriptions[-1].id)  # the very one that the cursor names
    rest = await service.page(limit=100, before=page.next_before)
    assert [view.id for view in (*page.subscriptions, *rest.subscriptions)] == made[::-1]


async def test_a_long_list_is_estimated_beyond_what_is_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "EXACT", 5)
    monkeypatch.setattr(lists, "LOOKED_AT", 6)
    for n in range(5):
        await service.make(apns(n), tags={"t": "1"})
    assert (await service.page()).total_is_estimate is False
    await service.make(apns(5))
    await service.admin.execute("ANALYZE subscription.subscriptions")
    page = await service.page()
    assert (page.total, page.total_is_estimate) == (6, True)
    assert (await service.page(status=-2)).total_is_estimate is False


async def test_what_is_rare_among_many_comes_in_short_pages(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LOOKED_AT", 4)
    made = [(await service.make(apns(n), tags={"rare": "1"} if n % 5 == 0 else {})).id for n in range(15)]
    page = await service.page(tag="rare", limit=2)
    assert [view.id for view in page.subscriptions] == []
    assert page.next_before == made[-4]
    assert await walk(service, 2, tag="rare") == [made[10], made[5], made[0]]


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"before": "x"}], ids=str)
async def test_a_list_without_bounds_is_refused(service: Service, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationFailed):
        await service.page(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", ["APPLICATION", "TYPE", "STATUS"])
@pytest.mark.parametrize("what", ["PAGE", "COUNT"])
async def test_a_small_tenants_list_is_not_searched_among_a_large_ones(service: Service, what: str, index: str) -> None:
    await service.admin.execute(
        """INSERT INTO subscription.subscriptions (
            id, application_id, type, status, key_id, token_hash, token_hint, token_kind, sealed_token, ad_consent
        ) SELECT gen_random_uuid(), $1, 'iOSPush', -10, gen_random_uuid(), sha256(n::text::bytea), '', 'token', '', true
        FROM generate_series(1, 3000) AS n""",
        SHOP,
    )
    await service.admin.execute("ANALYZE subscription.subscriptions")
    await service.admin.execute("SET plan_cache_mode = force_generic_plan")
    text = getattr(queries_lists, f"{what}_BY_{index}")
    await service.admin.execute(f"PREPARE asked AS {text}")
    parameters = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", text))))
    plan = "\n".join(row[0] for row in await service.admin.fetch(f"EXPLAIN EXECUTE asked ({parameters})"))
    assert "using subscriptions_list" in plan
    assert "subscriptions_pkey" not in plan


# history --------------------------------------------------------------------------------------------------------------


async def test_a_history_is_walked_newest_first(service: Service) -> None:
    made = await service.make(apns(1))
    for n in range(6):
        await service.tag([made.id], add={"n": str(n)})
    first = await service.events(made.id, limit=3)
    rest = await service.events(made.id, limit=10, before=first.next_before)
    assert (first.total, first.total_is_estimate, rest.next_before) == (7, False, None)
    positions = [event.position for event in (*first.events, *rest.events)]
    assert positions == sorted(positions, reverse=True)
    assert len(set(positions)) == 7
    assert (await service.events(made.id, limit=3, offset=6)).events == rest.events[-1:]


# people ---------------------------------------------------------------------------------------------------------------


async def test_a_person_is_reached_by_preference_then_by_who_was_last_active(service: Service) -> None:
    mail = await service.make(MAIL, "Email", user_id="u1")
    idle = await service.make(apns(1), user_id="u1")
    phone = await service.make(apns(2), user_id="u1")
    off = await service.make(apns(3), user_id="u1")
    await service.update(phone.id)
    await service.set_status(off.id, "disable")
    found = await service.resolve_users("u1", "nobody", mail.user_id or "")
    assert found.recipients.keys() == {"u1", mail.user_id}
    assert [each.subscription_id for each in found.recipients["u1"]] == [phone.id, idle.id, mail.id]
    assert {service.open(each, found.keys) for each in found.recipients["u1"]} == {apns(1), apns(2), MAIL}
    by_type = await service.resolve_users("u1", types=["Email", "iOSPush"])
    assert [each.subscription_id for each in by_type.recipients["u1"]] == [mail.id, phone.id, idle.id]
    assert (await service.resolve_users("u1", types=["SMS"])).recipients == {"u1": []}


async def test_where_nobody_can_be_reached_the_refusal_can_say_why(service: Service) -> None:
    made = await service.make(apns(1), user_id="u1")
    await service.set_status(made.id, "disable")
    (recipient,) = (await service.resolve_users("u1")).recipients["u1"]
    assert recipient.status == -2


async def test_another_applications_person_is_unknown(service: Service) -> None:
    theirs = await service.make(apns(1), user_id="u1", application_id=OTHER)
    assert await service.resolve_users("u1", theirs.user_id or "") == rpc.UsersResolved({}, {})
    assert await service.resolve_users() == rpc.UsersResolved({}, {})
    with pytest.raises(ValidationFailed):
        await service.resolve_users(*(f"u{n}" for n in range(1001)))


async def test_a_person_without_subscriptions_is_known_and_cannot_be_reached(service: Service) -> None:
    made = await service.make(apns(1), user_id="u1")
    await service.archive(made.id)
    assert (await service.resolve_users("u1")).recipients == {"u1": []}
    assert (await service.resolve(made.id, application_id=SHOP)).recipients == []
