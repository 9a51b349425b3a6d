"""POST /messages, POST /messages/batch and what can be asked about a message (REF-001 §4)."""

import asyncio
from typing import Any

import msgspec
import pytest

from libs import ids, rpc
from libs.envelope import Content, Lane
from tests.contract.rest_gateway import CREATED, CREATED_MS, OWNER, STRANGER, Rest

pytest_plugins = ["tests.contract.rest_fixtures"]


def text(subscription_id: str, **more: Any) -> dict[str, Any]:
    return {"subscription_id": subscription_id, "title": "알림 제목", "body": "내용", **more}


def sent_content(rest: Rest) -> Content:
    return msgspec.msgpack.decode(rest.platform.accepts[-1].messages[0].content, type=Content)


class TestOne:
    async def test_is_accepted(self, rest: Rest) -> None:
        subscription = rest.platform.subscribe()
        answer = await rest.post("/messages", text(subscription, data={"screen": "order"}))
        assert answer.status == 201
        (accept,) = rest.platform.accepts
        (message,) = accept.messages
        assert answer.data == {
            "message_id": message.message_id,
            "status": "pending",
            "created_at": CREATED,
            "subscription_id": subscription,
        }
        assert (accept.application_id, accept.source, accept.actor) == (OWNER, "single", "key:k1")
        assert (message.channel, message.lane, message.category, message.ttl) == ("apns", "normal", "info", None)
        assert message.why == {"subscription_status": 1, "token_version": 3, "ad_consent": True}
        assert sent_content(rest) == Content("알림 제목", "내용", {"screen": "order"})

    async def test_carries_its_options(self, rest: Rest) -> None:
        subscription = rest.platform.subscribe("AndroidPush")
        options = {"priority": "critical", "ttl": 60, "category": "ad", "collapse_key": "k", "push": {"badge": 3}}
        assert (await rest.post("/messages", text(subscription.upper(), **options))).status == 201
        message = rest.platform.accepts[0].messages[0]
        assert (message.channel, message.lane, message.ttl, message.category) == ("fcm", "critical", 60, "ad")
        assert message.collapse_key == "k"
        content = sent_content(rest)
        assert content.push is not None
        assert content.push.badge == 3

    @pytest.mark.parametrize(
        "content", [{}, {"title": "", "body": None}, {"push": {"silent": True}}, {"data": {"a": 1}}]
    )
    async def test_without_title_and_body_is_refused(self, rest: Rest, content: dict[str, Any]) -> None:
        answer = await rest.post("/messages", {"subscription_id": rest.platform.subscribe(), **content})
        assert (answer.status, answer.code) == (400, "invalid_message_content")
        assert set(answer.details["fields"]) == {"title", "body"}

    async def test_silent_needs_data_alone(self, rest: Rest) -> None:
        body = {"subscription_id": rest.platform.subscribe(), "data": {"a": 1}, "push": {"silent": True}}
        assert (await rest.post("/messages", body)).status == 201

    @pytest.mark.parametrize("kind", ["iOSPush", "AndroidPush"])
    async def test_over_size_is_refused(self, rest: Rest, kind: str) -> None:
        answer = await rest.post("/messages", text(rest.platform.subscribe(kind), data={"blob": "x" * 5000}))
        assert (answer.status, answer.code) == (400, "message_too_large")
        assert answer.details["limit"] == 4096 < answer.details["size"]

    @pytest.mark.parametrize(("kind", "name"), [("iOSPush", "aps"), ("AndroidPush", "google.x")])
    async def test_reserved_data_key_is_named(self, rest: Rest, kind: str, name: str) -> None:
        answer = await rest.post("/messages", text(rest.platform.subscribe(kind), data={name: "x"}))
        assert (answer.status, answer.code) == (400, "invalid_message_content")
        assert list(answer.details["fields"]) == [f"data.{name}"]

    async def test_unknown_subscription_is_not_found(self, rest: Rest) -> None:
        for subscription in (ids.new_id(), rest.platform.subscribe(owner=STRANGER)):
            answer = await rest.post("/messages", text(subscription))
            assert (answer.status, answer.code, answer.details) == (404, "resource_not_found", {"id": subscription})

    @pytest.mark.parametrize("status", [0, -2, -10])
    async def test_disabled_subscription_is_refused(self, rest: Rest, status: int) -> None:
        subscription = rest.platform.subscribe(status=status)
        answer = await rest.post("/messages", text(subscription))
        assert (answer.status, answer.code) == (400, "subscription_disabled")
        assert answer.details == {"subscription_id": subscription, "subscription_status": status}

    async def test_advertising_needs_consent(self, rest: Rest) -> None:
        subscription = rest.platform.subscribe(ad_consent=False)
        answer = await rest.post("/messages", text(subscription, category="ad"))
        assert (answer.status, answer.code) == (400, "subscription_disabled")
        assert answer.details["reason"] == "ad_consent_missing"
        assert (await rest.post("/messages", text(subscription))).status == 201

    async def test_type_without_a_sender_is_refused(self, rest: Rest) -> None:
        answer = await rest.post("/messages", text(rest.platform.subscribe("Email")))
        assert (answer.status, answer.code) == (400, "invalid_subscription_type")

    async def test_validate_only_checks_all_and_accepts_nothing(self, rest: Rest) -> None:
        subscription, disabled = rest.platform.subscribe(), rest.platform.subscribe(status=-2)
        answer = await rest.post("/messages", text(subscription, validate_only=True))
        assert (answer.status, answer.data) == (200, {"status": "valid", "subscription_id": subscription})
        assert (await rest.post("/messages", text(disabled, validate_only=True))).status == 400
        assert rest.platform.writes == 0

    async def test_concurrent_look_ups_share_a_question(self, rest: Rest) -> None:
        subscriptions = [rest.platform.subscribe() for _ in range(30)]
        answers = await asyncio.gather(*(rest.post("/messages", text(each)) for each in subscriptions))
        assert [answer.data["subscription_id"] for answer in answers] == subscriptions
        assert len(rest.platform.resolves) < 30
        assert len(rest.platform.accepts) == 30


class TestIdempotency:
    async def test_repetition_gets_the_same_answer_though_disabled_since(self, rest: Rest) -> None:
        body, headers = text(rest.platform.subscribe()), {"Idempotency-Key": "order-1"}
        first = await rest.post("/messages", body, headers=headers)
        rest.platform.recipients.clear()
        second = await rest.post("/messages", body, headers=headers)
        assert (first.status, first.body) == (second.status, second.body)
        assert "Idempotency-Replayed" not in first.headers
        assert second.headers["Idempotency-Replayed"] == "true"
        assert len(rest.platform.accepts) == 1

    async def test_simultaneous_repetitions_get_one_answer(self, rest: Rest) -> None:
        body, headers = text(rest.platform.subscribe()), {"Idempotency-Key": "order-1"}
        answers = await asyncio.gather(*(rest.post("/messages", body, headers=headers) for _ in range(10)))
        assert len({answer.data["message_id"] for answer in answers}) == 1
        assert len(rest.platform.accepts) == 1

    async def test_other_body_is_refused(self, rest: Rest) -> None:
        subscription, headers = rest.platform.subscribe(), {"Idempotency-Key": "order-1"}
        await rest.post("/messages", text(subscription), headers=headers)
        answer = await rest.post("/messages", text(subscription, ttl=5), headers=headers)
        assert (answer.status, answer.code) == (422, "idempotency_key_reused")

    @pytest.mark.parametrize("key", ["", "x" * 256, "주문"])
    async def test_key_must_be_printable_ascii(self, rest: Rest, key: str) -> None:
        answer = await rest.post("/messages", text(rest.platform.subscribe()), headers={"Idempotency-Key": key})
        assert (answer.status, answer.code) == (422, "validation_error")
        assert list(answer.details["fields"]) == ["Idempotency-Key"]
        assert rest.platform.writes == 0

    async def test_batch_repeats_its_refusals_too(self, rest: Rest) -> None:
        body = {"messages": [text(rest.platform.subscribe()), text(ids.new_id()), {"title": "x"}]}
        headers = {"Idempotency-Key": "batch-1"}
        first = await rest.post("/messages/batch", body, headers=headers)
        second = await rest.post("/messages/batch", body, headers=headers)
        assert first.body == second.body
        assert (first.data["accepted"], first.data["refused"]) == (1, 2)
        assert second.headers["Idempotency-Replayed"] == "true"
        assert len(rest.platform.accepts) == 1


class TestBatch:
    async def test_is_one_question_and_one_transaction(self, rest: Rest) -> None:
        subscriptions = [rest.platform.subscribe() for _ in range(1000)]
        answer = await rest.post("/messages/batch", {"messages": [text(each) for each in subscriptions]})
        assert answer.status == 200
        (accept,) = rest.platform.accepts
        assert len(rest.platform.resolves) == 1
        assert accept.source == "batch"
        assert [each.subscription_id for each in accept.messages] == subscriptions
        assert {each.lane for each in accept.messages} == {"bulk"}
        assert answer.data["results"] == [
            {"message_id": each.message_id, "status": "pending"} for each in accept.messages
        ]
        assert (answer.data["accepted"], answer.data["refused"]) == (1000, 0)

    async def test_each_item_stands_for_itself(self, rest: Rest) -> None:
        good = rest.platform.subscribe()
        items: list[Any] = [
            text(good, priority="normal"),
            text(good, ttl=0, nonsense=1),
            {"title": "x"},
            7,
            text(rest.platform.subscribe(owner=STRANGER)),
            text(rest.platform.subscribe(status=-10)),
            {"subscription_id": good},
            text(good, data={"aps": 1}),
            text(good, data={"n": 2**70}),
            text(good, title="a\0b"),
            text(good, validate_only=True),
            text(good),
        ]
        answer = await rest.post("/messages/batch", {"messages": items})
        codes = [result.get("error", {}).get("code") for result in answer.data["results"]]
        assert codes == [
            None,
            "validation_error",
            "invalid_request",
            "validation_error",
            "resource_not_found",
            "subscription_disabled",
            "invalid_message_content",
            "invalid_message_content",
            "validation_error",
            "validation_error",
            "validation_error",
            None,
        ]
        assert set(answer.data["results"][1]["error"]["details"]["fields"]) == {"ttl", "nonsense"}
        assert (answer.data["accepted"], answer.data["refused"]) == (2, 10)
        assert [each.lane for each in rest.platform.accepts[0].messages] == ["normal", "bulk"]

    @pytest.mark.parametrize("count", [0, 1001])
    async def test_count_is_bounded(self, rest: Rest, count: int) -> None:
        answer = await rest.post("/messages/batch", {"messages": [text(ids.new_id())] * count})
        assert (answer.status, answer.code) == (422, "validation_error")
        assert list(answer.details["fields"]) == ["messages"]

    async def test_all_refused_writes_nothing(self, rest: Rest) -> None:
        answer = await rest.post("/messages/batch", {"messages": [text(ids.new_id())]})
        assert (answer.status, answer.data["accepted"], answer.data["refused"]) == (200, 0, 1)
        assert rest.platform.writes == 0

    async def test_validate_only_accepts_nothing(self, rest: Rest) -> None:
        items = [text(rest.platform.subscribe()), text(ids.new_id())]
        answer = await rest.post("/messages/batch", {"messages": items, "validate_only": True})
        assert answer.data["results"][0] == {"message_id": None, "status": "valid"}
        assert (answer.data["accepted"], answer.data["refused"]) == (1, 1)
        assert rest.platform.writes == 0


def view(message_id: str, **more: Any) -> rpc.MessageView:
    lane: Lane = "normal"
    events = [
        rpc.EventView("created", 1, "", CREATED_MS, None, {"subscription_status": 1}),
        rpc.EventView("sent", 1, "call-1", CREATED_MS + 1500, None, {}),
    ]
    values: dict[str, Any] = {
        "id": message_id,
        "subscription_id": ids.new_id(),
        "channel": "apns",
        "lane": lane,
        "category": "info",
        "status": "successful",
        "attempt": 1,
        "created_at_ms": CREATED_MS,
        "sent_at_ms": CREATED_MS + 1500,
        "received_at_ms": None,
        "converted_at_ms": None,
        "failed_at_ms": None,
        "cancelled_at_ms": None,
        "reason": None,
        "content": msgspec.msgpack.encode(Content("제목", None, {"a": 1})),
        "events": events,
    }
    return rpc.MessageView(**{**values, **more})


class TestLookUp:
    async def test_shows_message_and_events(self, rest: Rest) -> None:
        message = ids.new_id()
        rest.platform.views[OWNER, message] = view(message)
        data = (await rest.get(f"/messages/{message}", key="reader-key")).data
        assert (data["id"], data["title"], data["body"], data["data"]) == (message, "제목", None, {"a": 1})
        assert (data["status"], data["created_at"], data["sent_at"]) == (
            "successful",
            CREATED,
            "2025-04-05T08:44:06.623Z",
        )
        assert (data["received_at"], data["priority"], data["channel"]) == (None, "normal", "apns")
        assert [event["event_type"] for event in data["events"]] == ["created", "sent"]
        assert "content_erased" not in data

    async def test_says_that_content_was_erased(self, rest: Rest) -> None:
        message = ids.new_id()
        rest.platform.views[OWNER, message] = view(message, content=None)
        data = (await rest.get(f"/messages/{message}")).data
        assert (data["title"], data["body"], data["content_erased"]) == (None, None, True)

    async def test_timeline_says_why_in_both_languages(self, rest: Rest) -> None:
        message = ids.new_id()
        rest.platform.views[OWNER, message] = view(message, next_attempt_at_ms=CREATED_MS)
        path = f"/messages/{message}/events"
        english = (await rest.get(path)).data
        korean = (await rest.get(path, headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.8"})).data
        assert english["events"][0]["why"] == "Accepted: the subscription was active (status 1)."
        assert korean["events"][0]["why"] != english["events"][0]["why"]
        assert english["next_attempt_at"] == CREATED
        assert english["why"].startswith("APNs accepted it.")
        assert english["events"][1] == {
            "event_type": "sent",
            "occurred_at": "2025-04-05T08:44:06.623Z",
            "attempt": 1,
            "reason": None,
            "data": {},
            "why": "APNs accepted it.",
        }

    @pytest.mark.parametrize("tail", ["", "/events"])
    async def test_what_is_not_ours_is_not_found(self, rest: Rest, tail: str) -> None:
        message = ids.new_id()
        rest.platform.views[STRANGER, message] = view(message)
        for identifier in (message, ids.new_id(), "m1", f"{message}%0A", "%00", "%ff", "x" * 300):
            answer = await rest.get(f"/messages/{identifier}{tail}")
            assert (answer.status, answer.code) == (404, "resource_not_found"), identifier
