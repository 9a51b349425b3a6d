"""POST /messages/{id}/cancel and /resend, and receipts with a `client` key, over the whole platform."""

import asyncio

import pytest

from libs.envelope import Outcome, OutcomeEnvelope, encode
from libs.ids import new_id
from libs.pg import single_connection
from libs.subjects import outcome
from tests.contract.rest_requests import push_token
from tests.contract.streams_harness import until
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

FAILED = Outcome("", "failed", 1, "call", 0, reason="Unregistered")
TIMED_OUT = Outcome("", "errored", 1, "call", 0, reason="timeout", retry_class="network")


async def sent(shop: Tenant, subscription: str | None = None) -> str:
    if subscription is None:
        made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token()})
        subscription = made.data["subscription_id"]
    message = await shop.post("/messages", {"subscription_id": subscription, "title": "Hello", "body": "x"})
    return str(message.data["message_id"])


async def after(whole: Whole, shop: Tenant, fact: Outcome, message: str | None = None) -> str:
    """A message of which a sender reported this, once it is recorded."""
    message = message or await sent(shop)
    told = Outcome(message, *[getattr(fact, name) for name in Outcome.__struct_fields__[1:]])
    envelope = OutcomeEnvelope(shop.application_id, "normal", [told])
    await whole.bus.publish(outcome("normal", "apns", "local"), encode(envelope), msg_id=new_id())

    async def recorded() -> bool:
        events = (await shop.get(f"/messages/{message}")).data["events"]
        return fact.kind in {event["event_type"] for event in events}

    await until(recorded)
    return message


class TestCancel:
    async def test_a_waiting_message_is_cancelled_once_and_for_all(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = await after(shared_whole, shop, TIMED_OUT)
        answers = await asyncio.gather(*(shop.post(f"/messages/{message}/cancel") for _ in range(5)))
        again = await shop.post(f"/messages/{message}/cancel")
        assert {str(answer.body) for answer in answers} == {str(again.body)}
        assert (again.status, again.data["id"], again.data["status"]) == (200, message, "cancelled")
        found = (await shop.get(f"/messages/{message}")).data
        assert (found["status"], found["cancelled_at"]) == ("cancelled", again.data["cancelled_at"])
        assert [event["event_type"] for event in found["events"]].count("cancelled") == 1
        timeline = (await shop.get(f"/messages/{message}/events")).data
        assert (timeline["why"], "next_attempt_at" in timeline) == ("Cancelled before it was sent.", False)

    async def test_what_is_on_its_way_or_over_is_not(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        for message in (await sent(shop), await after(shared_whole, shop, FAILED)):
            answer = await shop.post(f"/messages/{message}/cancel")
            assert (answer.status, answer.code) == (400, "message_already_processed")
        assert (await shop.get(f"/messages/{message}")).data["cancelled_at"] is None

    async def test_what_is_not_ours_is_not_found(self, shared_whole: Whole) -> None:
        shop, stranger = await shared_whole.tenant(), await shared_whole.tenant()
        waiting = await after(shared_whole, stranger, TIMED_OUT)
        failed = await after(shared_whole, stranger, FAILED)
        for path in (f"{waiting}/cancel", f"{failed}/resend", f"{new_id()}/cancel", f"{new_id()}/resend", "m1/cancel"):
            answer = await shop.post(f"/messages/{path}")
            assert (answer.status, answer.code) == (404, "resource_not_found"), path
        assert (await stranger.post(f"/messages/{waiting}/cancel")).status == 200

    async def test_a_provider_that_took_it_after_all_is_believed(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = await after(shared_whole, shop, TIMED_OUT)
        await shop.post(f"/messages/{message}/cancel")
        await after(shared_whole, shop, Outcome("", "sent", 1, "late", 0), message)
        found = (await shop.get(f"/messages/{message}")).data
        assert (found["status"], found["cancelled_at"] is None) == ("successful", False)


class TestResend:
    @pytest.mark.parametrize("cancelled", [False, True])
    async def test_begins_a_further_attempt(self, shared_whole: Whole, cancelled: bool) -> None:
        shop = await shared_whole.tenant()
        message = await after(shared_whole, shop, TIMED_OUT if cancelled else FAILED)
        if cancelled:
            await shop.post(f"/messages/{message}/cancel")
        answer = await shop.post(f"/messages/{message}/resend")
        assert (answer.status, answer.data) == (200, {"id": message, "status": "pending", "attempt": 2})
        timeline = (await shop.get(f"/messages/{message}/events")).data
        assert (timeline["status"], timeline["why"]) == ("pending", "Sent again on request: attempt 2 began.")

    async def test_only_what_failed_or_was_cancelled_is_sent_again(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        delivered = await after(shared_whole, shop, Outcome("", "sent", 1, "call", 0))
        waiting = await after(shared_whole, shop, TIMED_OUT)
        for message in (await sent(shop), delivered, waiting):
            answer = await shop.post(f"/messages/{message}/resend")
            assert (answer.status, answer.code) == (400, "message_already_processed")

    async def test_the_same_request_begins_one_attempt(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = await after(shared_whole, shop, FAILED)
        headers = {"X-Request-Id": "again-1"}
        answers = await asyncio.gather(*(shop.post(f"/messages/{message}/resend", headers=headers) for _ in range(4)))
        assert {(answer.status, answer.data["attempt"]) for answer in answers} == {(200, 2)}
        other = await shop.post(f"/messages/{message}/resend")
        assert other.code == "message_already_processed"

    async def test_requests_that_come_together_begin_one_attempt(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = await after(shared_whole, shop, FAILED)
        answers = await asyncio.gather(*(shop.post(f"/messages/{message}/resend") for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [200, 400, 400, 400, 400]

    async def test_a_late_outcome_of_the_attempt_before_changes_nothing_but_success(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        message = await after(shared_whole, shop, FAILED)
        await shop.post(f"/messages/{message}/resend")
        late = Outcome("", "errored", 1, "late", 0, reason="timeout", retry_class="network")
        await after(shared_whole, shop, late, message)
        found = (await shop.get(f"/messages/{message}/events")).data
        assert (found["status"], "next_attempt_at" in found) == ("pending", False)
        await after(shared_whole, shop, Outcome("", "sent", 1, "very-late", 0), message)
        assert (await shop.get(f"/messages/{message}")).data["status"] == "successful"

    async def test_erased_content_cannot_be_sent_again(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        made = await shop.post("/subscriptions", {"type": "iOSPush", "token": push_token()})
        name = f"user-{new_id()}"
        await shop.post("/users/identify", {"external_id": name, "subscriptions": [made.data["subscription_id"]]})
        message = await after(shared_whole, shop, FAILED, await sent(shop, made.data["subscription_id"]))
        user_id = (await shop.get(f"/messages/{message}")).data["user_id"]
        async with single_connection(shared_whole.database.admin_dsn) as c:
            await c.execute(
                "DELETE FROM subscription.data_keys WHERE id = (SELECT key_id FROM subscription.users WHERE id = $1)",
                user_id,
            )
        answer = await shop.post(f"/messages/{message}/resend")
        assert (answer.status, answer.code) == (400, "invalid_message_content")
        assert (await shop.get(f"/messages/{message}")).data["content_erased"] is True


class TestReceiptOfAnApp:
    async def test_speaks_of_its_own_subscription_alone(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        app = await shared_whole.with_key(shop.application_id, ["client"])
        mine = (await app.post("/subscriptions", {"type": "iOSPush", "token": push_token()})).data
        headers = {"X-Subscription-Secret": mine["subscription_secret"]}
        own, other = await sent(shop, mine["subscription_id"]), await sent(shop)
        for path, body in (("status", {"status": "received"}), ("convert", {"action": "open"})):
            assert (await app.post(f"/messages/{own}/{path}", body, headers=headers)).status == 200
            stranger = await app.post(f"/messages/{other}/{path}", body, headers=headers)
            assert (stranger.status, stranger.code) == (404, "resource_not_found")
            assert (await app.post(f"/messages/{own}/{path}", body)).status in (401, 403, 404)
        assert (await shop.get(f"/messages/{own}")).data["status"] == "converted"
        assert (await shop.get(f"/messages/{other}")).data["status"] == "pending"

    async def test_reports_that_come_together_are_told_apart(self, shared_whole: Whole) -> None:
        shop = await shared_whole.tenant()
        app = await shared_whole.with_key(shop.application_id, ["client"])
        devices = [
            (await app.post("/subscriptions", {"type": "iOSPush", "token": push_token()})).data for _ in range(2)
        ]
        message = await sent(shop, devices[0]["subscription_id"])
        answers = await asyncio.gather(
            *(
                app.post(
                    f"/messages/{message}/status",
                    {"status": "received"},
                    headers={"X-Subscription-Secret": each["subscription_secret"]},
                )
                for each in devices * 5
            )
        )
        assert [answer.status for answer in answers] == [200, 404] * 5
