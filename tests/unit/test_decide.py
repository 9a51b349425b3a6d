"""Policy: which message is still sent, and what the timeline says of the others."""

from typing import Any

import msgspec
import pytest

from libs.envelope import Accepted
from libs.message import KINDS
from libs.rpc import Recipient
from services.dispatcher.decide import CHANNELS, decide, refused

NOW = 1_800_000_000_000
ITEM = Accepted("m", "s", 2, b"sealed", NOW + 1)
RECIPIENT = Recipient("s", "iOSPush", 1, b"", "token", 7, 0, False, b"k", "KR", True)


def recipient(**changes: Any) -> Recipient:
    return msgspec.structs.replace(RECIPIENT, **changes)


def reason_of(item: Accepted, found: Recipient | None) -> str | None:
    refusal = decide(item, found, NOW)
    return None if refusal is None else refusal.reason


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_subscribed_recipient_of_a_known_channel_gets_it(kind: str) -> None:
    assert decide(ITEM, recipient(type=kind), NOW) is None


@pytest.mark.parametrize(("deadline_ms", "reason"), [(NOW + 1, None), (NOW, "expired"), (NOW - 1, "expired")])
def test_the_deadline_itself_is_too_late(deadline_ms: int, reason: str | None) -> None:
    assert reason_of(msgspec.structs.replace(ITEM, deadline_ms=deadline_ms), RECIPIENT) == reason


@pytest.mark.parametrize("status", [0, -2, -10, -98])
def test_who_is_not_subscribed_gets_nothing(status: int) -> None:
    refusal = decide(ITEM, recipient(status=status), NOW)
    assert refusal is not None
    assert (refusal.kind, refusal.reason) == ("failed", "subscription_disabled")
    assert refusal.data == {"subscription_id": "s", "subscription_status": status, "token_version": 7}


def test_an_unknown_subscription_is_gone() -> None:
    refusal = decide(ITEM, None, NOW)
    assert refusal is not None
    assert (refusal.reason, refusal.data) == ("subscription_gone", {"subscription_id": "s"})


@pytest.mark.parametrize(
    ("category", "agreed", "reason"),
    [("ad", True, None), ("ad", False, "ad_consent_missing"), ("info", False, None), ("info", True, None)],
)
def test_only_ads_need_consent_to_ads(category: str, agreed: bool, reason: str | None) -> None:
    assert reason_of(msgspec.structs.replace(ITEM, category=category), recipient(ad_consent=agreed)) == reason


def test_a_channel_without_a_sender_is_refused_by_name() -> None:
    refusal = decide(ITEM, recipient(type="Email"), NOW)
    assert refusal is not None
    assert (refusal.reason, refusal.data["type"]) == ("channel_unavailable", "Email")


def test_the_first_question_that_is_answered_no_is_the_reason() -> None:
    late = msgspec.structs.replace(ITEM, deadline_ms=0, category="ad")
    assert reason_of(late, None) == "expired"
    assert reason_of(msgspec.structs.replace(ITEM, category="ad"), recipient(status=-2, ad_consent=False)) == (
        "subscription_disabled"
    )


def test_a_refusal_is_a_fact_of_its_attempt_the_same_each_time() -> None:
    late = msgspec.structs.replace(ITEM, deadline_ms=0)
    refusal = decide(late, RECIPIENT, NOW)
    assert refusal is not None
    fact = refused(late, refusal, NOW)
    assert (fact.message_id, fact.kind, fact.attempt, fact.key) == ("m", "expired", 2, "dispatch:expired")
    assert fact.kind in KINDS
    assert fact.data == {"deadline_ms": 0, "decided_ms": NOW}
    assert fact.retry_class is None
