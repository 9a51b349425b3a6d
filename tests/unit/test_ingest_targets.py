"""Which of a person's subscriptions a message goes to."""

from typing import Any

import pytest

from libs.api.messages import MessageItem
from libs.errors import InvalidSubscriptionType, ResourceNotFound, SubscriptionDisabled
from libs.rpc import Recipient
from services.ingest.recipients import Reachable
from services.ingest.targets import Found, chosen


def device(name: str, kind: str = "iOSPush", status: int = 1, ad_consent: bool = True) -> Reachable:
    return Reachable(Recipient(name, kind, status, b"", "token", 1, 0, False, b"", None, ad_consent), b"")


def reached(*devices: Reachable, **options: Any) -> list[str]:
    item = MessageItem(external_id="ada", title="x", **options)
    return [each.recipient.subscription_id for each in chosen(item, Found({}, {"ada": list(devices)}))]


RECENT, OLD, ANDROID, MAIL = device("recent"), device("old"), device("android", "AndroidPush"), device("mail", "Email")


def test_without_a_preference_the_most_recently_active_gets_it() -> None:
    assert reached(ANDROID, RECENT, OLD) == ["android"]


def test_types_go_by_preference_and_within_one_the_most_recently_active() -> None:
    assert reached(ANDROID, RECENT, OLD, channels=["iOSPush", "AndroidPush"]) == ["recent"]
    assert reached(ANDROID, RECENT, OLD, channels=["SMS", "AndroidPush", "iOSPush"]) == ["android"]
    everything = reached(ANDROID, RECENT, OLD, channels=["iOSPush", "AndroidPush", "iOSPush"], strategy="all")
    assert everything == ["recent", "old", "android"]


def test_what_cannot_be_reached_is_passed_over() -> None:
    assert reached(MAIL, device("asleep", status=-2), RECENT, strategy="all") == ["recent"]
    assert reached(device("unwilling", ad_consent=False), OLD, category="ad") == ["old"]


@pytest.mark.parametrize(
    ("devices", "options", "error"),
    [
        ((device("asleep", status=-2),), {}, SubscriptionDisabled),
        ((MAIL,), {}, InvalidSubscriptionType),
        ((RECENT,), {"channels": ["AndroidPush"]}, SubscriptionDisabled),
        ((device("unwilling", ad_consent=False),), {"category": "ad"}, SubscriptionDisabled),
        ((), {"strategy": "all"}, SubscriptionDisabled),
    ],
)
def test_nobody_reachable_says_why(devices: tuple[Reachable, ...], options: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        reached(*devices, **options)


def test_somebody_unknown_is_not_found_and_not_named() -> None:
    with pytest.raises(ResourceNotFound) as refusal:
        chosen(MessageItem(external_id="ada", title="x"), Found({}, {}))
    assert "ada" not in str(refusal.value.details)
