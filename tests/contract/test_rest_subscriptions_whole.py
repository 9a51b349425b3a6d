"""Subscriptions over REST, down to Postgres: every operation, as an application's back end and as its app call it."""

import asyncio
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs import rpc
from libs.ids import is_id, new_id
from tests.contract.rest_gateway import Answer
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

TOKEN, NEXT = "ab" * 32, "cd" * 32
MAIL = "reader@example.com"
SECRET = "X-Subscription-Secret"


@pytest.fixture
async def shop(whole: Whole) -> Tenant:
    return await whole.tenant()


async def make(tenant: Tenant, token: str = TOKEN, kind: str = "iOSPush", **more: Any) -> str:
    answer = await tenant.post("/subscriptions", {"type": kind, "token": token, **more})
    assert answer.status == 201, answer.body
    return str(answer.data["subscription_id"])


class App:
    """An app with a `client` key, and what it was given at registration."""

    def __init__(self, tenant: Tenant, made: Answer) -> None:
        self.tenant = tenant
        self.id = str(made.data["subscription_id"])
        self.headers = {SECRET: str(made.data["subscription_secret"])}

    async def call(self, method: str, path: str = "", body: Any = None, **options: Any) -> Answer:
        return await self.tenant.call(method, f"/subscriptions/{self.id}{path}", body, headers=self.headers, **options)


async def install(whole: Whole, shop: Tenant, token: str = TOKEN, **more: Any) -> App:
    tenant = await whole.with_key(shop.application_id, ["client"])
    made = await tenant.post("/subscriptions", {"type": "iOSPush", "token": token, **more})
    assert made.status == 201, made.body
    return App(tenant, made)


# register -------------------------------------------------------------------------------------------------------------


async def test_created_is_what_is_read(shop: Tenant) -> None:
    device = {"device_model": "iPhone 13", "country_code": "kr", "device_language": "ko", "test_type": 0}
    body = {"user_id": "u-1", "device_info": device, "tags": {"vip": "true"}, "application_id": shop.application_id}
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": TOKEN, **body})
    assert made.status == 201
    assert is_id(made.data["subscription_id"])
    assert "subscription_secret" not in made.data
    found = await shop.get(f"/subscriptions/{made.data['subscription_id']}")
    assert found.status == 200
    assert found.data["device_info"] == {**device, "country_code": "KR"}
    assert (found.data["external_id"], found.data["tags"]) == ("u-1", {"vip": "true"})
    assert (found.data["subscription_status"], found.data["ad_consent"]) == (1, True)
    assert found.data["subscribed_at"] == found.data["created_at"] == made.data["created_at"]
    assert TOKEN not in str(found.body)


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("AndroidPush", "f:APA91bExampleToken-0123456789"),
        ("Email", MAIL),
        ("SMS", "+821012345678"),
        ("KakaoTalk", "+821012345678"),
        ("InAppMessage", "device-1"),
    ],
)
async def test_every_type_can_be_registered(shop: Tenant, kind: str, token: str) -> None:
    found = await shop.get(f"/subscriptions/{await make(shop, token, kind)}")
    assert (found.data["type"], found.data["ad_consent"]) == (kind, kind == "AndroidPush")


async def test_what_cannot_be_sent_to_yet_is_refused_at_sending(shop: Tenant) -> None:
    made = await make(shop, MAIL, "Email")
    answer = await shop.post("/messages", {"subscription_id": made, "title": "Hello"})
    assert (answer.status, answer.code) == (400, "invalid_subscription_type")


async def test_a_duplicate_names_the_first(shop: Tenant) -> None:
    made = await make(shop)
    answer = await shop.post("/subscriptions", {"type": "iOSPush", "token": TOKEN.upper()})
    assert (answer.status, answer.code) == (400, "duplicate_subscription")
    assert answer.details == {"subscription_id": made}


async def test_put_creates_then_updates(shop: Tenant) -> None:
    body = {"type": "iOSPush", "token": TOKEN, "installation_id": "i-1"}
    first = await shop.call("PUT", "/subscriptions", body)
    again = await shop.call("PUT", "/subscriptions", {**body, "tags": {"a": "b"}})
    replaced = await shop.call("PUT", "/subscriptions", {**body, "token": NEXT})
    posted = await shop.post("/subscriptions", {**body, "token": TOKEN})
    assert [each.status for each in (first, again, replaced, posted)] == [201, 200, 200, 200]
    assert len({each.data["subscription_id"] for each in (first, again, replaced, posted)}) == 1
    assert (await shop.get("/subscriptions")).data["pagination"]["total_items"] == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"type": "Pigeon", "token": "x"}, 400, "invalid_subscription_type"),
        ({"type": "SMS", "token": "0101"}, 400, "invalid_token"),
        ({"type": "iOSPush", "token": TOKEN, "double_opt_in": True}, 422, "validation_error"),
        ({"type": "iOSPush", "token": TOKEN, "tags": {"x": "y" * 257}}, 422, "validation_error"),
        ({"type": "iOSPush", "token": TOKEN, "tags": {"": "y"}}, 422, "validation_error"),
        ({"type": "iOSPush", "token": TOKEN, "tags": {str(n): "" for n in range(101)}}, 422, "validation_error"),
        ({"type": "iOSPush", "token": TOKEN, "installation_id": ""}, 422, "validation_error"),
        ({"type": "iOSPush", "token": TOKEN, "tokn": ""}, 422, "validation_error"),
        ({"type": "iOSPush"}, 400, "invalid_request"),
        (
            {"type": "iOSPush", "token": TOKEN, "application_id": "0199a1b2-0000-7000-8000-0000000000bb"},
            403,
            "permission_denied",
        ),
    ],
    ids=str,
)
async def test_bad_bodies(shop: Tenant, body: dict[str, Any], status: int, code: str) -> None:
    answer = await shop.post("/subscriptions", body)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert (await shop.get("/subscriptions")).data["subscriptions"] == []


async def test_a_repetition_with_the_same_key_makes_one(shop: Tenant) -> None:
    body, headers = {"type": "iOSPush", "token": TOKEN}, {"Idempotency-Key": "k-1"}
    answers = [await shop.post("/subscriptions", body, headers=headers) for _ in range(2)]
    assert answers[0].data == answers[1].data
    assert answers[1].headers["Idempotency-Replayed"] == "true"


# update ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_what_is_given_changes_and_the_rest_stays(shop: Tenant, method: str) -> None:
    made = await make(shop, device_info={"device_model": "A", "app_version": "1"})
    answer = await shop.call(
        method, f"/subscriptions/{made}", {"token": NEXT, "device_info": {"app_version": "2"}, "ad_consent": False}
    )
    assert answer.status == 200
    assert answer.data["device_info"] == {"device_model": "A", "app_version": "2"}
    assert (answer.data["token_hint"], answer.data["ad_consent"]) == (NEXT[-4:], False)
    found = await shop.get(f"/subscriptions/{made}")
    assert found.data == answer.data


async def test_the_sdk_reports_what_the_device_allows(shop: Tenant) -> None:
    made = await make(shop)
    for code in (-18, 1, -22, 1):
        answer = await shop.call("PATCH", f"/subscriptions/{made}", {"subscription_status": code})
        assert answer.data["subscription_status"] == code
    for code in (-2, -31, -3, -70, 2):
        answer = await shop.call("PATCH", f"/subscriptions/{made}", {"subscription_status": code})
        assert (answer.status, list(answer.details["fields"])) == (422, ["subscription_status"])


async def test_a_refusal_is_told_in_korean_too(shop: Tenant) -> None:
    made = await make(shop)
    answer = await shop.call(
        "PATCH", f"/subscriptions/{made}", {"subscription_status": -3}, headers={"Accept-Language": "ko"}
    )
    assert answer.details["fields"] == {"subscription_status": "이 구독 유형이 보고할 수 없는 상태 코드입니다"}


async def test_disable_enable_and_confirm(shop: Tenant) -> None:
    made = await make(shop, MAIL, "Email", double_opt_in=True)
    steps = [
        ("confirm", None, 1),
        ("disable", None, -2),
        ("disable", {"by": "api"}, -2),
        ("enable", {}, 1),
        ("disable", {"by": "api"}, -31),
        ("enable", None, 1),
    ]
    for path, body, status in steps:
        answer = await shop.post(f"/subscriptions/{made}/{path}", body)
        assert (answer.status, answer.data["subscription_status"]) == (200, status), path
        assert set(answer.data) == {
            "id",
            "subscription_status",
            "unsubscribed_at" if path == "disable" else "subscribed_at",
        }
    await shop.post(f"/subscriptions/{made}/disable")
    assert (await shop.post(f"/subscriptions/{made}/confirm")).status == 422


async def test_disabled_ones_get_no_messages_and_a_new_token_does_not_change_that(shop: Tenant) -> None:
    made = await make(shop)
    await shop.post(f"/subscriptions/{made}/disable")
    updated = await shop.post(f"/subscriptions/{made}/update-token", {"token": NEXT})
    assert (updated.status, updated.data["subscription_status"]) == (200, -2)
    assert updated.data["token_updated_at"]
    answer = await shop.post("/messages", {"subscription_id": made, "title": "Hello"})
    assert (answer.status, answer.code) == (400, "subscription_disabled")


async def test_a_token_of_somebody_else_is_a_duplicate(shop: Tenant) -> None:
    made, other = await make(shop), await make(shop, NEXT)
    answer = await shop.post(f"/subscriptions/{made}/update-token", {"token": NEXT})
    assert (answer.status, answer.code, answer.details) == (400, "duplicate_subscription", {"subscription_id": other})
    assert (await shop.post(f"/subscriptions/{made}/update-token", {"token": "x"})).code == "invalid_token"


async def test_an_archived_one_is_gone_and_its_token_is_free(shop: Tenant) -> None:
    made = await make(shop)
    answer = await shop.call("DELETE", f"/subscriptions/{made}")
    assert (answer.status, answer.data["id"]) == (200, made)
    assert (await shop.call("DELETE", f"/subscriptions/{made}")).status == 404
    assert await make(shop) != made
    history = (await shop.get(f"/subscriptions/{made}/events")).data
    assert [event["event_type"] for event in history["events"]] == ["archived", "created"]


# tags -----------------------------------------------------------------------------------------------------------------


async def test_tags_of_one(shop: Tenant) -> None:
    path = f"/subscriptions/{await make(shop)}/tags"
    assert (await shop.post(path, {"tags": {"a": "1", "b": "2"}})).data["tags"] == {"a": "1", "b": "2"}
    assert (await shop.call("DELETE", path, {"tag_keys": ["a"]})).data["tags"] == {"b": "2"}
    assert (await shop.call("DELETE", path, {"tag_keys": []})).status == 422
    assert (await shop.post(path, {"tags": {str(n): "" for n in range(100)}})).status == 422
    assert (await shop.post(f"/subscriptions/{new_id()}/tags", {"tags": {}})).status == 404


async def test_tags_of_many(shop: Tenant) -> None:
    made, unknown = [await make(shop), await make(shop, NEXT)], new_id()
    body = {"subscription_ids": [*made, unknown, made[0].upper()], "tags": {"a": "1"}}
    assert (await shop.post("/subscriptions/tags", body)).data == {"updated": 2, "unknown": [unknown]}
    assert (await shop.get(f"/subscriptions/{made[1]}")).data["tags"] == {"a": "1"}
    gone = {"subscription_ids": made, "tag_keys": ["a"]}
    assert (await shop.call("DELETE", "/subscriptions/tags", gone)).data == {"updated": 2, "unknown": []}
    assert (await shop.get(f"/subscriptions/{made[1]}")).data["tags"] == {}
    for ids in ([], [new_id()] * 1001, ["nonsense"]):
        assert (await shop.post("/subscriptions/tags", {"subscription_ids": ids, "tags": {}})).status == 422


# lists and history ----------------------------------------------------------------------------------------------------


async def test_lists_are_paged_and_filtered(shop: Tenant) -> None:
    made = [await make(shop, f"{n:064x}", tags={"even": "1"} if n % 2 == 0 else {}) for n in range(5)]
    first = (await shop.get("/subscriptions", params={"per_page": 2})).data
    assert [each["id"] for each in first["subscriptions"]] == made[:2:-1]
    assert first["pagination"] == {
        "page": 1,
        "per_page": 2,
        "total_items": 5,
        "total_pages": 3,
        "total_is_estimate": False,
        "next_cursor": made[3],
    }
    await make(shop, NEXT)
    second = (await shop.get("/subscriptions", params={"per_page": 2, "cursor": made[3]})).data
    assert [each["id"] for each in second["subscriptions"]] == [made[2], made[1]]
    third = (await shop.get("/subscriptions", params={"per_page": 2, "page": 3})).data
    assert [each["id"] for each in third["subscriptions"]] == [made[1], made[0]]
    tagged = (await shop.get("/subscriptions", params={"tag": "even", "type": "iOSPush", "status": 1})).data
    assert [each["id"] for each in tagged["subscriptions"]] == [made[4], made[2], made[0]]


@pytest.mark.parametrize(
    "params", [{"cursor": "x"}, {"type": "Pigeon"}, {"status": "x"}, {"page": 0}, {"per_page": 101}, {"colour": "red"}]
)
async def test_bad_queries(shop: Tenant, params: dict[str, Any]) -> None:
    answer = await shop.get("/subscriptions", params=params)
    assert (answer.status, list(answer.details["fields"])) == (422, list(params))


async def test_the_history_tells_who_did_what(shop: Tenant) -> None:
    made = await make(shop)
    await shop.post(f"/subscriptions/{made}/disable", {"by": "api"})
    await shop.post(f"/subscriptions/{made}/tags", {"tags": {"plan": "gold"}})
    found = (await shop.get(f"/subscriptions/{made}/events", params={"per_page": 2})).data
    assert [(each["event_type"], each["source"]) for each in found["events"]] == [
        ("tags_changed", "api"),
        ("disabled", "api"),
    ]
    assert all(each["actor"].startswith("key:") for each in found["events"])
    assert "gold" not in str(found)
    cursor = found["pagination"]["next_cursor"]
    rest = (await shop.get(f"/subscriptions/{made}/events", params={"cursor": cursor})).data
    assert [each["event_type"] for each in rest["events"]] == ["created"]
    assert rest["pagination"]["next_cursor"] is None
    assert (await shop.get(f"/subscriptions/{made}/events", params={"cursor": "x"})).status == 422


# tenants --------------------------------------------------------------------------------------------------------------

BELOW: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "", {"ad_consent": False}),
    ("PUT", "", {"ad_consent": False}),
    ("DELETE", "", None),
    ("POST", "/disable", None),
    ("POST", "/enable", None),
    ("POST", "/confirm", None),
    ("POST", "/update-token", {"token": NEXT}),
    ("POST", "/tags", {"tags": {"a": "1"}}),
    ("DELETE", "/tags", {"tag_keys": ["a"]}),
    ("GET", "/events", None),
]


@pytest.mark.parametrize(("method", "path", "body"), BELOW, ids=lambda part: str(part))
async def test_another_applications_id_is_as_unknown_as_nobodys(
    whole: Whole, shop: Tenant, method: str, path: str, body: Any
) -> None:
    made, stranger = await make(shop), await whole.tenant()
    theirs = await stranger.call(method, f"/subscriptions/{made}{path}", body)
    nobodys = await stranger.call(method, f"/subscriptions/{made[:-4]}0000{path}", body)
    assert (theirs.status, theirs.code) == (nobodys.status, nobodys.code) == (404, "resource_not_found")
    found = await shop.get(f"/subscriptions/{made}")
    assert (found.data["subscription_status"], found.data["ad_consent"], found.data["tags"]) == (1, True, {})


# apps -----------------------------------------------------------------------------------------------------------------

OWN = [each for each in BELOW if each[:2] not in (("DELETE", ""), ("POST", "/confirm"), ("GET", "/events"))]


@pytest.mark.parametrize(("method", "path", "body"), OWN, ids=lambda part: str(part))
async def test_an_app_manages_its_own_subscription_alone(
    whole: Whole, shop: Tenant, method: str, path: str, body: Any
) -> None:
    app, other = await install(whole, shop), await make(shop, "ef" * 32)
    assert (await app.call(method, path, body)).status == 200
    refused = await app.tenant.call(method, f"/subscriptions/{other}{path}", body, headers=app.headers)
    assert (refused.status, refused.code) == (404, "resource_not_found")
    without = await app.tenant.call(method, f"/subscriptions/{app.id}{path}", body)
    assert without.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/subscriptions/{id}"),
        ("POST", "/subscriptions/{id}/confirm"),
        ("GET", "/subscriptions/{id}/events"),
        ("GET", "/subscriptions"),
        ("POST", "/subscriptions/tags"),
    ],
)
async def test_what_an_app_may_not_do(whole: Whole, shop: Tenant, method: str, path: str) -> None:
    app = await install(whole, shop)
    answer = await app.tenant.call(method, path.replace("{id}", app.id), {} if method == "POST" else None)
    assert (answer.status, answer.code) == (403, "permission_denied")


async def test_an_app_is_the_person_in_the_history(whole: Whole, shop: Tenant) -> None:
    app = await install(whole, shop)
    await app.call("POST", "/disable")
    assert (await app.call("POST", "/disable", {"by": "api"})).status == 403
    await app.call("POST", "/enable")
    await app.call("PATCH", "", {"subscription_status": -22})
    history = (await shop.get(f"/subscriptions/{app.id}/events")).data["events"]
    assert [(each["event_type"], each["source"]) for each in history] == [
        ("unsubscribed", "sdk"),
        ("subscribed", "user"),
        ("unsubscribed", "user"),
        ("created", "sdk"),
    ]


async def test_a_wrong_secret_is_refused(whole: Whole, shop: Tenant) -> None:
    app = await install(whole, shop)
    answer = await app.tenant.get(f"/subscriptions/{app.id}", headers={SECRET: "ss_wrong"})
    assert (answer.status, answer.code) == (401, "authentication_failed")


async def test_an_app_cannot_touch_an_address_that_is_there(whole: Whole, shop: Tenant) -> None:
    made, app = await make(shop, MAIL, "Email"), await whole.with_key(shop.application_id, ["client"])
    for method in ("POST", "PUT"):
        answer = await app.call(method, "/subscriptions", {"type": "Email", "token": MAIL, "user_id": "thief"})
        assert (answer.status, answer.code) == (403, "permission_denied")
        assert made not in str(answer.body)
    assert (await shop.get(f"/subscriptions/{made}")).data["external_id"] is None


async def test_an_app_cannot_confirm_by_enabling(whole: Whole, shop: Tenant) -> None:
    app = await install(whole, shop, MAIL, type="Email", double_opt_in=True)
    assert (await app.call("POST", "/enable")).code == "permission_denied"
    assert (await shop.post(f"/subscriptions/{app.id}/enable")).data["subscription_status"] == 1


async def test_an_app_that_starts_again_is_brought_up_to_date(whole: Whole, shop: Tenant) -> None:
    app = await install(whole, shop, installation_id="i-1")
    body = {"type": "iOSPush", "token": NEXT, "installation_id": "i-1"}
    assert (await app.tenant.call("PUT", "/subscriptions", body)).status == 403
    again = await app.tenant.call("PUT", "/subscriptions", body, headers=app.headers)
    assert (again.status, again.data["subscription_id"]) == (200, app.id)
    assert "subscription_secret" not in again.data


async def test_an_app_names_a_person_only_with_their_back_ends_word_where_that_is_asked_for(
    whole: Whole, shop: Tenant
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    wanted = rpc.UpdateApplication(shop.application_id, "test", identity_public_key=public, identity_required=True)
    await whole.bus.call("application", "update_application", wanted, rpc.ApplicationView)
    app = await whole.with_key(shop.application_id, ["client"])

    def vouching(person: str) -> str:
        claims = {"sub": person, "iss": shop.application_id, "exp": int(time.time()) + 60}
        return jwt.encode(claims, key, algorithm="ES256")

    body = {"type": "iOSPush", "token": TOKEN, "user_id": "u-1"}
    for wrong in ({}, {"identity_token": "x"}, {"identity_token": vouching("u-2")}):
        refused = await app.post("/subscriptions", {**body, **wrong})
        assert (refused.status, refused.code) == (403, "permission_denied")
    assert (await app.post("/subscriptions", {**body, "token": NEXT, "user_id": None})).status == 201
    made = await app.post("/subscriptions", {**body, "identity_token": vouching("u-1")})
    found = await shop.get(f"/subscriptions/{made.data['subscription_id']}")
    assert found.data["external_id"] == "u-1"
    assert (await shop.post("/subscriptions", {**body, "token": "12" * 32})).status == 201  # a back end needs no word


async def test_simultaneous_starts_of_one_app_end_in_one_row(whole: Whole, shop: Tenant) -> None:
    app = await whole.with_key(shop.application_id, ["client"])
    body = {"type": "iOSPush", "token": TOKEN, "installation_id": "i-1"}
    answers = await asyncio.gather(*(app.call("PUT", "/subscriptions", body) for _ in range(20)))
    assert sorted(each.status for each in answers) == [200] * 19 + [201]
    assert len({each.data["subscription_id"] for each in answers}) == 1
    assert (await shop.get("/subscriptions")).data["pagination"]["total_items"] == 1
