"""What a push looks like to each provider, and what it weighs."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.envelope import Content, Push
from libs.push import apns_message, apns_payload, fcm_message, forbidden_data_key, payload_size
from services.senders.fcm import request_body
from tests.push_samples import MESSAGE_ID, PLAIN, RICH, SILENT, delivery

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.none() | st.text(max_size=30)
CONTENTS = st.builds(
    Content,
    title=TEXT,
    body=TEXT,
    data=st.dictionaries(st.text(min_size=1, max_size=10), JSON_VALUES, max_size=4),
    push=st.none()
    | st.builds(
        Push,
        badge=st.none() | st.integers(0, 99),
        sound=TEXT,
        image=TEXT,
        click_action=TEXT,
        channel_id=TEXT,
        category=TEXT,
        silent=st.booleans(),
    ),
    collapse_key=TEXT,
)


def test_apns_shows_title_and_body_and_names_the_message() -> None:
    assert json.loads(apns_payload(MESSAGE_ID, PLAIN)) == {
        "aps": {"alert": {"title": "Hello", "body": "World"}},
        "automata_message_id": MESSAGE_ID,
    }


def test_apns_carries_every_option_and_the_data_as_it_is() -> None:
    message = json.loads(apns_payload(MESSAGE_ID, RICH))
    assert message.pop("aps") == {
        "alert": {"title": RICH.title, "body": RICH.body},
        "badge": 2,
        "sound": "chime.caf",
        "mutable-content": 1,
        "content-available": 1,
        "interruption-level": "time-sensitive",
        "category": "ORDER",
    }
    assert message == {
        **RICH.data,
        "automata_message_id": MESSAGE_ID,
        "automata_image": "https://cdn.example.com/i.png",
        "automata_click_action": "OPEN_ORDER",
        "automata_buttons": [{"id": "yes", "text": "예"}, {"id": "no", "text": "No"}],
    }


def test_apns_image_alone_wakes_the_service_extension() -> None:
    content = Content(title="t", push=Push(image="https://cdn.example.com/i.png"))
    assert apns_message(MESSAGE_ID, content)["aps"]["mutable-content"] == 1


def test_apns_silent_shows_nothing() -> None:
    assert apns_message(MESSAGE_ID, SILENT) == {
        "aps": {"content-available": 1},
        "sync": "now",
        "automata_message_id": MESSAGE_ID,
    }


def test_data_cannot_take_the_place_of_what_apple_or_the_sdk_reads() -> None:
    message = apns_message(MESSAGE_ID, Content(title="t", data={"aps": 1, "automata_message_id": "forged"}))
    assert message == {"aps": {"alert": {"title": "t"}}, "automata_message_id": MESSAGE_ID}


def test_fcm_carries_every_option_and_strings_only_as_data() -> None:
    message = fcm_message(MESSAGE_ID, RICH)
    assert message["notification"] == {
        "title": RICH.title,
        "body": RICH.body,
        "image": "https://cdn.example.com/i.png",
    }
    assert message["android"] == {
        "priority": "high",
        "collapse_key": "order-12345",
        "notification": {
            "tag": "order-12345",
            "sound": "chime.caf",
            "channel_id": "orders",
            "click_action": "OPEN_ORDER",
            "notification_count": 2,
        },
    }
    buttons = message["data"].pop("automata_buttons")
    assert json.loads(buttons) == [{"id": "yes", "text": "예"}, {"id": "no", "text": "No"}]
    assert message["data"] == {
        "order_id": "12345",
        "count": "3",
        "tags": '["a","b"]',
        "gift": "true",
        "note": "null",
        "한글": "값",
        "automata_message_id": MESSAGE_ID,
        "automata_category": "ORDER",
    }


def test_fcm_repeat_replaces_what_is_shown_without_using_up_a_collapse_key() -> None:
    android = fcm_message(MESSAGE_ID, PLAIN)["android"]
    assert android == {"priority": "high", "notification": {"tag": MESSAGE_ID}}


def test_fcm_silent_is_data_only() -> None:
    assert fcm_message(MESSAGE_ID, SILENT) == {
        "data": {"sync": "now", "automata_message_id": MESSAGE_ID},
        "android": {"priority": "normal"},
    }


@given(content=CONTENTS)
def test_firebase_admin_sends_what_the_gateway_weighed(content: Content) -> None:
    """Its models and encoder make the JSON on the wire: the same as ours, with target and lifetime added."""
    sent: dict[str, Any] = json.loads(request_body(delivery(content), now=1_767_225_600.0))["message"]
    assert sent.pop("token") == delivery().token
    assert sent["android"].pop("ttl") == "3600s"
    assert sent == without_empty(fcm_message(MESSAGE_ID, content))


def without_empty(node: Any) -> Any:
    """firebase-admin drops empty objects and lists (`remove_null_values`)."""
    if not isinstance(node, dict):
        return node
    kept = {key: without_empty(value) for key, value in node.items()}
    return {key: value for key, value in kept.items() if value not in ({}, [], None)}


@given(content=CONTENTS)
def test_apns_size_is_that_of_the_payload(content: Content) -> None:
    payload = apns_payload(MESSAGE_ID, content)
    assert payload_size("apns", MESSAGE_ID, content) == len(payload)
    assert msgspec.json.decode(payload)["automata_message_id"] == MESSAGE_ID


def test_fcm_size_counts_bytes_of_keys_and_values() -> None:
    content = Content(title="주문", body="b", data={"k": "값"})
    weights = ["title", "주문", "body", "b", "k", "값", "automata_message_id", MESSAGE_ID, "tag", MESSAGE_ID]
    assert payload_size("fcm", MESSAGE_ID, content) == sum(len(text.encode()) for text in weights)


@pytest.mark.parametrize(
    ("channel", "key"),
    [
        ("apns", "aps"),
        ("apns", "automata_message_id"),
        ("fcm", "from"),
        ("fcm", "gcm"),
        ("fcm", "gcm.notification.title"),
        ("fcm", "message_type"),
        ("fcm", "google"),
        ("fcm", "google.ttl"),
        ("fcm", "automata_buttons"),
    ],
)
def test_a_key_that_the_provider_or_the_sdk_keeps_is_named(channel: str, key: str) -> None:
    assert forbidden_data_key(channel, {"fine": 1, key: "x"}) == key


@pytest.mark.parametrize("channel", ["apns", "fcm"])
def test_other_keys_are_free(channel: str) -> None:
    assert forbidden_data_key(channel, {"order": 1, "fro": 2, "goog": 3, "automata": 4}) is None
