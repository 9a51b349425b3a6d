"""A message is weighed only if it could be too heavy: the estimate must never be below the truth. An ad is weighed with
its mark."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.api.messages import MessageItem
from libs.envelope import Button, Content, Push
from libs.errors import MessageTooLarge
from libs.ids import new_id
from libs.push import marked, payload_size
from libs.rpc import Recipient, Rendered
from services.ingest.acceptance import CHANNELS, FRAME, GROWTH, new_message
from services.ingest.recipients import Reachable

texts = st.text(max_size=40)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=40,
)
pushes = st.builds(
    Push,
    badge=st.none() | st.integers(-(2**63), 2**64 - 1),
    sound=st.none() | texts,
    image=st.none() | texts,
    click_action=st.none() | texts,
    buttons=st.lists(st.builds(Button, id=texts, text=texts), max_size=4).map(tuple),
    channel_id=st.none() | texts,
    category=st.none() | texts,
    mutable_content=st.booleans(),
    content_available=st.booleans(),
    interruption_level=st.sampled_from([None, "passive", "time-sensitive"]),
    silent=st.booleans(),
)
contents = st.builds(
    Content,
    title=st.none() | texts,
    body=st.none() | texts,
    data=st.dictionaries(texts, values, max_size=8),
    push=st.none() | pushes,
    collapse_key=st.none() | texts,
)


@pytest.mark.parametrize("channel", sorted(CHANNELS.values()))
@settings(deadline=None)
@given(content=contents)
def test_estimate_is_never_below_the_weight(channel: str, content: Content) -> None:
    estimate = len(msgspec.msgpack.encode(content)) * GROWTH + FRAME
    assert payload_size(channel, new_id(), content) <= estimate
    assert payload_size(channel, new_id(), marked(content)) <= estimate


@pytest.mark.parametrize("channel", sorted(CHANNELS.values()))
@pytest.mark.parametrize("character", ["\x01", '"', "\\", "한", "😀", "\u2028", "\x7f"])
def test_estimate_holds_for_the_worst_characters(channel: str, character: str) -> None:
    content = Content(
        character * 500, character * 500, {"a": character * 500, "b": [character * 500, {"": [True] * 50}]}
    )
    estimate = len(msgspec.msgpack.encode(content)) * GROWTH + FRAME
    assert payload_size(channel, new_id(), content) <= estimate


HEAVIEST = 4096


def item(channel: str, category: Literal["info", "ad"], title: str | None, spare: int) -> MessageItem:
    """So large that `spare` bytes are left."""
    made = MessageItem(subscription_id=new_id(), title=title, body="b", category=category)
    size = payload_size(channel, new_id(), Content(title, "b"))
    return msgspec.structs.replace(made, body="b" * (1 + HEAVIEST - spare - size))


def to(kind: str, country: str | None) -> Reachable:
    recipient = Recipient(new_id(), kind, 1, b"", "token", 1, 0, False, b"k", country, True)
    return Reachable(recipient, b"w")


@pytest.mark.parametrize(("kind", "channel"), CHANNELS.items())
@pytest.mark.parametrize("title", ["Sale", None])
@pytest.mark.parametrize("country", ["KR", None])
def test_an_ad_leaves_room_for_its_mark(kind: str, channel: str, title: str | None, country: str | None) -> None:
    """Whoever it goes to: they may have moved to Korea by the time it is sent."""
    mark = len("(광고) ".encode())
    assert mark == 9
    fits = item(channel, "ad", title, spare=mark)
    sent = msgspec.msgpack.decode(new_message(fits, to(kind, country), "normal").content, type=Content)
    assert (sent.title, sent.body) == (title, fits.body)
    assert payload_size(channel, new_id(), marked(sent)) == HEAVIEST
    with pytest.raises(MessageTooLarge) as refusal:
        new_message(item(channel, "ad", title, spare=mark - 1), to(kind, country), "normal")
    assert refusal.value.details == {"limit": HEAVIEST, "size": HEAVIEST + 1}


@pytest.mark.parametrize(("kind", "channel"), CHANNELS.items())
def test_what_is_no_ad_or_marked_already_needs_no_room(kind: str, channel: str) -> None:
    new_message(item(channel, "info", "Sale", spare=0), to(kind, "KR"), "normal")
    new_message(item(channel, "ad", "(광고) Sale", spare=0), to(kind, "KR"), "normal")


def test_spaces_that_the_mark_takes_away_weigh_where_there_is_none() -> None:
    with pytest.raises(MessageTooLarge):
        new_message(item("apns", "ad", " " * 20 + "Sale", spare=-1), to("iOSPush", "US"), "normal")


def test_an_ad_from_a_template_leaves_room_too() -> None:
    full = item("apns", "info", "Sale", spare=0)
    ad = MessageItem(subscription_id=new_id(), template_id="t", category="ad")
    with pytest.raises(MessageTooLarge):
        new_message(ad, to("iOSPush", "KR"), "normal", Rendered("t", 1, title="Sale", body=full.body))
