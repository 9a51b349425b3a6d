"""A message is weighed only if it could be too heavy: the estimate must never be below the truth."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.envelope import Button, Content, Push
from libs.ids import new_id
from libs.push import payload_size
from services.ingest.acceptance import CHANNELS, FRAME, GROWTH

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


@pytest.mark.parametrize("channel", sorted(CHANNELS.values()))
@pytest.mark.parametrize("character", ["\x01", '"', "\\", "한", "😀", "\u2028", "\x7f"])
def test_estimate_holds_for_the_worst_characters(channel: str, character: str) -> None:
    content = Content(
        character * 500, character * 500, {"a": character * 500, "b": [character * 500, {"": [True] * 50}]}
    )
    estimate = len(msgspec.msgpack.encode(content)) * GROWTH + FRAME
    assert payload_size(channel, new_id(), content) <= estimate
