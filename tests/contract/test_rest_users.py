"""Users over the REST API (REF-001 §3): who a device belongs to, what is held about a person, and forgetting them."""

import asyncio
import time
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from libs import rpc
from libs.envelope import LANES
from libs.ids import new_id
from libs.pg import single_connection
from libs.subjects import stream_of
from tests.contract.rest_gateway import Answer
from tests.contract.whole_platform import Tenant, Whole
from tests.waiting import until

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ["user_123", "김 철수", "a/b", "100%", "x?y#z", "%2F", "..%2f", "+1 (2)", "새/이름?&=", "😀", "e" * 255]


def at(name: str, rest: str = "") -> str:
    return f"/users/{quote(name, safe='')}{rest}"


async def device(shop: Tenant, token: str | None = None, **more: Any) -> str:
    body = {"type": "iOSPush", "token": token or new_id().replace("-", "") * 2, **more}
    found: str = (await shop.post("/subscriptions", body)).data["subscription_id"]
    return found


async def identify(shop: Tenant, name: str, *ids: str, **options: Any) -> Answer:
    return await shop.post("/users/identify", {"external_id": name, "subscriptions": list(ids)}, **options)


async def export(shop: Tenant, name: str) -> Any:
    """The `data` of the whole export."""
    async with shop.session.get(f"/api/v1{at(name, '/export')}", headers={"X-API-Key": shop.api_key}) as response:
        assert (response.status, "Content-Length" in response.headers) == (200, False)
        return (await response.json())["data"]


async def delete(shop: Tenant, name: str) -> Answer:
    return await shop.call("DELETE", at(name))


# identify and logout --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_a_user_is_found_under_the_name_given(shared_whole: Whole, name: str) -> None:
    shop = await shared_whole.tenant()
    phone = await device(shop)
    made = await identify(shop, name, phone)
    assert (made.status, made.data["external_id"]) == (200, name)
    found = await shop.get(at(name))
    assert (found.status, found.data) == (200, made.data)
    assert (await shop.get(at(made.data["user_id"]))).data == made.data
    of_user = await shop.get(at(name, "/subscriptions"))
    assert [each["id"] for each in of_user.data["subscriptions"]] == [phone]
    assert (await export(shop, name))["user"] == made.data
    assert (await delete(shop, name)).status == 200
    assert (await shop.get(at(name))).status == 404


async def test_logout_answers_what_is_unlinked(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    phone = await device(shop)
    await identify(shop, "user_1", phone)
    left = await shop.post("/users/logout", {"subscriptions": [phone.upper()]})
    assert (left.status, left.data) == (200, {"unlinked_subscriptions": [phone]})
    assert (await shop.get(at("user_1", "/subscriptions"))).data == {"subscriptions": []}
    assert (await shop.get(f"/subscriptions/{phone}")).data["user_id"] is None


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("identify", {}, 400),
        ("identify", {"external_id": ""}, 422),
        ("identify", {"external_id": "x" * 256}, 422),
        ("identify", {"external_id": "a\0"}, 422),
        ("identify", {"external_id": 7}, 422),
        ("identify", {"external_id": "a", "subscriptions": ["no id"]}, 422),
        ("identify", {"external_id": "a", "subscriptions": [new_id()] * 1001}, 422),
        ("identify", {"external_id": "a", "subscriptions": [new_id()]}, 404),
        ("identify", {"external_id": "a", "name": "b"}, 422),
        ("identify", {"external_id": "a", "application_id": new_id()}, 403),
        ("logout", {}, 422),
        ("logout", {"subscriptions": []}, 422),
        ("logout", {"subscriptions": [new_id()]}, 404),
    ],
)
async def test_a_bad_request_makes_no_user(shared_whole: Whole, path: str, body: dict[str, Any], status: int) -> None:
    shop = await shared_whole.tenant()
    assert (await shop.post(f"/users/{path}", body)).status == status
    assert (await shop.get(at("a"))).status == 404


async def test_a_name_that_nobody_can_have_is_unknown(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    for name in ("nobody", "%00", "%FF%FE", "x" * 2000, new_id()):
        for rest in ("", "/subscriptions", "/export"):
            assert (await shop.get(f"/users/{name}{rest}")).status == 404, name
        assert (await shop.call("DELETE", f"/users/{name}")).status == 404


async def test_the_same_request_under_one_key_makes_one_user(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    headers = {"Idempotency-Key": "once"}
    first, again = await identify(shop, "user_1", headers=headers), await identify(shop, "user_1", headers=headers)
    assert first.data == again.data
    assert again.headers["Idempotency-Replayed"] == "true"
    await delete(shop, "user_1")

    async def is_forgotten() -> bool:
        answer = await identify(shop, "user_1", headers=headers)
        return "Idempotency-Replayed" not in answer.headers

    await until(is_forgotten, "the answer that was remembered is gone")


# client keys ----------------------------------------------------------------------------------------------------------


class App:
    """An app on somebody's phone: its key is in every copy, its secret is the installation's own."""

    def __init__(self, tenant: Tenant, subscription_id: str, secret: str) -> None:
        self.tenant = tenant
        self.subscription_id = subscription_id
        self.headers = {"X-Subscription-Secret": secret}

    async def post(self, path: str, body: dict[str, Any]) -> Answer:
        return await self.tenant.post(path, body, headers=self.headers)


async def install(whole: Whole, shop: Tenant) -> App:
    client = await whole.with_key(shop.application_id, ["client"])
    body = {"type": "iOSPush", "token": new_id().replace("-", "") * 2}
    made = await client.post("/subscriptions", body)
    assert made.status == 201, made
    return App(client, made.data["subscription_id"], made.data["subscription_secret"])


async def test_an_app_identifies_and_leaves_its_own_subscription_only(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    app, others = await install(shared_whole, shop), await device(shop)
    for body in ({"subscriptions": [app.subscription_id]}, {}):
        assert (await app.post("/users/identify", {"external_id": "user_1", **body})).status == 200
        assert len((await shop.get(at("user_1", "/subscriptions"))).data["subscriptions"]) == 1
        left = await app.post("/users/logout", body)
        assert (left.status, left.data["unlinked_subscriptions"]) == (200, [app.subscription_id])
    for ids in ([others], [app.subscription_id, others]):
        for path, more in (("identify", {"external_id": "user_2"}), ("logout", {})):
            assert (await app.post(f"/users/{path}", {"subscriptions": ids, **more})).status == 404
    assert (await shop.get(at("user_2"))).status == 404
    history = (await shop.get(f"/subscriptions/{app.subscription_id}/events")).data["events"]
    assert {each["source"] for each in history if each["event_type"].startswith("user_")} == {"sdk"}


async def test_without_its_secret_an_app_identifies_nobody(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    app = await install(shared_whole, shop)
    app.headers = {}
    for ids in ([], [app.subscription_id]):
        assert (await app.post("/users/identify", {"external_id": "user_1", "subscriptions": ids})).status == 403
    assert (await shop.get(at("user_1"))).status == 404


async def test_an_app_may_do_nothing_else_with_users(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    app = await install(shared_whole, shop)
    await app.post("/users/identify", {"external_id": "user_1"})
    for method, rest in (("GET", ""), ("GET", "/subscriptions"), ("GET", "/export"), ("DELETE", "")):
        assert (await app.tenant.call(method, at("user_1", rest), headers=app.headers)).status == 403
    assert (await app.tenant.get(f"/deletions/{new_id()}", headers=app.headers)).status == 403


async def test_where_it_is_asked_for_an_app_needs_the_word_of_its_back_end(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    key = generate_private_key(SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    wanted = rpc.UpdateApplication(shop.application_id, "test", identity_public_key=public, identity_required=True)
    await shared_whole.bus.call("application", "update_application", wanted, rpc.ApplicationView)
    app = await install(shared_whole, shop)

    def token(name: str) -> str:
        claims = {"sub": name, "iss": shop.application_id, "exp": int(time.time()) + 60}
        return jwt.encode(claims, private, "ES256")

    body = {"external_id": "user_1"}
    for bad in ({}, {"identity_token": "no"}, {"identity_token": token("user_2")}):
        assert (await app.post("/users/identify", body | bad)).status == 403
    assert (await shop.get(at("user_1"))).status == 404
    assert (await app.post("/users/identify", body | {"identity_token": token("user_1")})).status == 200
    assert (await identify(shop, "user_3", app.subscription_id)).status == 200  # a back end needs none


# the export -----------------------------------------------------------------------------------------------------------


async def test_the_export_has_everything_and_nothing_of_others(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    info = {"device_model": "Galaxy", "country_code": "KR"}
    phone = await device(shop, device_info=info, installation_id="inst-1")
    anonymous = await send(shop, phone, "anonymous")
    await identify(shop, "ann", phone)
    await shop.post(f"/subscriptions/{phone}/tags", {"tags": {"plan": "gold"}})
    to_ann = await send(shop, phone, "for ann")
    await shop.post(f"/messages/{to_ann}/convert", {"action": "bought", "data": {"item": "ring"}})
    await identify(shop, "bob", phone)
    to_bob = await send(shop, phone, "for bob")
    await identify(shop, "ann", phone, await device(shop))
    exported = await export(shop, "ann")
    titles = {each["id"]: each["title"] for each in exported["messages"]}
    assert titles == {anonymous: "anonymous", to_ann: "for ann"}
    events = exported["messages"][1]["timeline"]
    assert [each["event_type"] for each in events] == ["created", "received", "converted"]
    assert events[2]["data"]["data"] == {"item": "ring"}
    (held, _) = exported["subscriptions"]
    assert (held["device_info"]["device_model"], held["installation_id"]) == ("Galaxy", "inst-1")
    assert held["archived_at"] is None
    assert len(held["token_hint"]) == 4
    assert {each["event_type"] for each in exported["history"]} >= {"created", "user_linked", "user_unlinked"}
    bobs = await export(shop, "bob")
    assert [(each["id"], each["title"]) for each in bobs["messages"]] == [(to_bob, "for bob")]
    assert {each["event_type"] for each in bobs["history"]} == {"user_linked", "user_unlinked"}
    assert bobs["subscriptions"] == []


async def send(shop: Tenant, subscription_id: str, title: str) -> str:
    sent = await shop.post("/messages", {"subscription_id": subscription_id, "title": title})
    assert sent.status == 201, sent
    found: str = sent.data["message_id"]
    return found


async def test_a_long_export_comes_in_pieces(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    phone = await device(shop)
    await identify(shop, "ann", phone)
    body = {"messages": [{"subscription_id": phone, "title": f"n{n}"} for n in range(130)]}
    assert (await shop.post("/messages/batch", body)).data["accepted"] == 130
    found = await export(shop, "ann")
    assert [each["title"] for each in found["messages"]] == [f"n{n}" for n in range(130)]


# deletion -------------------------------------------------------------------------------------------------------------


async def test_a_deletion_can_be_followed(shared_whole: Whole) -> None:
    for lane in LANES:  # what a dispatcher would have taken: it does not run here
        await shared_whole.bus.js.purge_stream(stream_of("DISPATCH", lane))
    shop = await shared_whole.tenant()
    await identify(shop, "user_1", await device(shop))
    answer = await delete(shop, "user_1")
    request_id = answer.data["request_id"]
    assert answer.data == {"message": "User deletion request has been processed", "request_id": request_id}
    assert request_id.startswith("del-")

    async def is_completed() -> bool:
        found = await shop.get(f"/deletions/{request_id}")
        assert found.data["status"] in ("in_progress", "completed")
        return bool(found.data["status"] == "completed")

    await until(is_completed, "the deletion is completed")
    found = await shop.get(f"/deletions/{request_id.removeprefix('del-')}")
    assert (found.data["request_id"], found.data["subscriptions"]) == (request_id, 1)
    assert found.data["requested_at"] <= found.data["completed_at"]
    stranger = await shared_whole.tenant()
    for each in (request_id, f"del-{new_id()}", "del-1", "del-"):
        asker = stranger if each == request_id else shop
        assert (await asker.get(f"/deletions/{each}")).status == 404


async def test_a_user_is_deleted_once(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    await identify(shop, "user_1", await device(shop))
    results = await asyncio.gather(*(delete(shop, "user_1") for _ in range(5)))
    assert sorted(each.status for each in results) == [200, 404, 404, 404, 404]
    assert (await delete(await shared_whole.tenant(), "user_1")).status == 404


async def test_a_message_that_waits_fails_as_erased(shared_whole: Whole) -> None:
    """Held by an emergency stop, in `due`, when its person is forgotten."""
    shop = await shared_whole.tenant()
    phone = await device(shop)
    await identify(shop, "user_1", phone)
    message_id = await send(shop, phone, "waits")
    async with single_connection(shared_whole.database.admin_dsn) as admin:
        await admin.execute(
            "INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason) "
            "VALUES ($1, $2, 'normal', now() + interval '1 hour', 'retry:outage')",
            message_id,
            shop.application_id,
        )
    await delete(shop, "user_1")

    async def is_failed() -> bool:
        found = (await shop.get(f"/messages/{message_id}")).data
        return (found["status"], found["reason"]) == ("failed", "content_erased")

    await until(is_failed, "the message is failed")
    found = (await shop.get(f"/messages/{message_id}/events")).data
    assert "next_attempt_at" not in found
    assert [each["event_type"] for each in found["events"]] == ["created", "failed"]


async def test_the_audit_log_tells_of_users_by_our_ids(shared_whole: Whole) -> None:
    shop = await shared_whole.tenant()
    made = await identify(shop, "kim.minji@example.com", await device(shop))
    await export(shop, "kim.minji@example.com")
    await delete(shop, "kim.minji@example.com")
    entries = (await shop.get("/audit-log")).data["entries"]
    told = {each["action"]: each["resource"] for each in entries if each["action"].startswith("user.")}
    assert told == dict.fromkeys(("user.identify", "user.export", "user.delete"), f"user/{made.data['user_id']}")
    assert "kim.minji" not in str(entries)
