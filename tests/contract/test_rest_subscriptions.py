"""POST /subscriptions, GET /subscriptions/{id} (REF-001 §2)."""

import pytest

from libs import ids, rpc
from tests.contract.rest_gateway import APNS_TOKEN, CREATED, OWNER, Rest

pytest_plugins = ["tests.contract.rest_fixtures"]


async def test_is_created(rest: Rest) -> None:
    device = {"device_model": "iPhone 13", "country_code": "kr", "test_type": 0}
    body = {"type": "iOSPush", "token": APNS_TOKEN, "user_id": "u1", "device_info": device, "application_id": OWNER}
    answer = await rest.post("/subscriptions", body)
    assert answer.status == 201
    assert ids.is_id(answer.data.pop("subscription_id"))
    assert answer.data == {
        "type": "iOSPush",
        "subscription_status": 1,
        "created_at": CREATED,
        "token_hint": APNS_TOKEN[-4:],
    }
    (created,) = rest.platform.created
    assert created == rpc.CreateSubscription(
        application_id=OWNER,
        type="iOSPush",
        token=APNS_TOKEN,
        actor="key:k1",
        user_id="u1",
        device_info=rpc.DeviceInfo(device_model="iPhone 13", country_code="KR", test_type=0),
    )


@pytest.mark.parametrize(("token", "kind"), [("f:" + "x" * 150, "token"), ("dPqxK9", "fid")])
async def test_android_by_token_or_installation(rest: Rest, token: str, kind: str) -> None:
    answer = await rest.post("/subscriptions", {"type": "AndroidPush", "token": token, "token_kind": kind})
    assert answer.status == 201
    assert rest.platform.created[0].token_kind == kind


async def test_same_token_again_names_the_first(rest: Rest) -> None:
    body = {"type": "iOSPush", "token": APNS_TOKEN}
    await rest.post("/subscriptions", body)
    answer = await rest.post("/subscriptions", body)
    assert (answer.status, answer.code) == (400, "duplicate_subscription")
    assert answer.details == {"subscription_id": "the-first"}


async def test_is_shown_without_its_token(rest: Rest) -> None:
    await rest.post("/subscriptions", {"type": "iOSPush", "token": APNS_TOKEN, "user_id": "u1"})
    subscription = rest.platform.subscribe()
    answer = await rest.get(f"/subscriptions/{subscription}", key="reader-key")
    assert answer.status == 200
    assert (answer.data["id"], answer.data["type"], answer.data["user_id"]) == (subscription, "iOSPush", "u1")
    assert (answer.data["subscribed_at"], answer.data["last_active_at"]) == (CREATED, None)
    assert answer.data["token_hint"] == APNS_TOKEN[-4:]
    assert APNS_TOKEN not in str(answer.body)
