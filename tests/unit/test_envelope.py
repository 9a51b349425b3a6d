"""Envelopes: what is packed comes out again, whole, in order, within the limits."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.envelope import (
    MAX_BYTES,
    MAX_ITEMS,
    Accepted,
    Content,
    Delivery,
    DispatchEnvelope,
    Outcome,
    OutcomeEnvelope,
    SendEnvelope,
    UndecodableEnvelope,
    decode,
    encode,
    pack,
)

GOLDEN = Path(__file__).parents[2] / "proto" / "golden"
KINDS: dict[str, type[DispatchEnvelope] | type[SendEnvelope] | type[OutcomeEnvelope]] = {
    "dispatch": DispatchEnvelope,
    "send": SendEnvelope,
    "outcome": OutcomeEnvelope,
}


def wrap(items: list[Accepted]) -> DispatchEnvelope:
    return DispatchEnvelope("handoff", "application", "bulk", items)


def accepted(number: int, size: int = 10) -> Accepted:
    return Accepted(str(number), "subscription", 1, bytes(size), 0)


def test_what_is_encoded_is_decoded() -> None:
    content = Content(title="안녕", body="👋", data={"deep": [1, {"x": None}]}, collapse_key="k")
    delivery = Delivery("m", "s", 1, "token", 2, 3, True, 4, content, "fid")
    outcome = Outcome("m", "sent", 1, "key", 5, "reason", "outage", 1.5, {"status": 503})
    for envelope, kind in (
        (wrap([accepted(1)]), DispatchEnvelope),
        (SendEnvelope("h", "a", "critical", "apns", "local", [delivery], True), SendEnvelope),
        (OutcomeEnvelope("a", "normal", [outcome]), OutcomeEnvelope),
    ):
        assert decode(encode(envelope), kind) == envelope


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 200_000), max_size=40))
def test_every_item_is_packed_once_in_order_and_only_one_alone_may_be_too_large(sizes: list[int]) -> None:
    items = [accepted(number, size) for number, size in enumerate(sizes)]
    parts = list(pack(items, wrap))
    assert [item for members, _ in parts for item in members] == items
    for members, payload in parts:
        assert decode(payload, DispatchEnvelope).items == members
        assert len(payload) <= MAX_BYTES or len(members) == 1


@pytest.mark.parametrize(("count", "parts"), [(0, []), (1, [1]), (MAX_ITEMS, [500]), (MAX_ITEMS + 1, [500, 1])])
def test_an_envelope_holds_500_at_most(count: int, parts: list[int]) -> None:
    packed = pack([accepted(number) for number in range(count)], wrap)
    assert [len(members) for members, _ in packed] == parts


def test_a_single_item_over_the_limit_has_an_envelope_of_its_own() -> None:
    packed = list(pack([accepted(1), accepted(2, MAX_BYTES), accepted(3)], wrap))
    assert [[item.message_id for item in members] for members, _ in packed] == [["1"], ["2"], ["3"]]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", b"not msgpack", msgspec.msgpack.encode({"v": "other"})])
@pytest.mark.parametrize("kind", KINDS.values())
def test_other_bytes_are_undecodable(
    payload: bytes, kind: type[DispatchEnvelope] | type[SendEnvelope] | type[OutcomeEnvelope]
) -> None:
    with pytest.raises(UndecodableEnvelope):
        decode(payload, kind)


@pytest.mark.parametrize(("sample", "other"), [("dispatch", "send"), ("send", "outcome"), ("outcome", "dispatch")])
def test_the_envelope_of_another_stream_is_undecodable(sample: str, other: str) -> None:
    payload = (GOLDEN / f"{sample}-v1.msgpack").read_bytes()
    assert decode(payload, KINDS[sample]).items
    with pytest.raises(UndecodableEnvelope):
        decode(payload, KINDS[other])


@pytest.mark.parametrize(
    "envelope",
    [
        wrap([Accepted("m", "s", "one", b"", 0)]),  # type: ignore[arg-type]  # the point
        DispatchEnvelope("h", "a", "urgent", []),  # type: ignore[arg-type]  # the point
    ],
)
def test_a_value_of_another_type_is_undecodable(envelope: DispatchEnvelope) -> None:
    with pytest.raises(UndecodableEnvelope):
        decode(encode(envelope), DispatchEnvelope)


def test_what_the_next_release_adds_at_the_end_does_not_hurt() -> None:
    raw = msgspec.msgpack.decode(encode(wrap([accepted(1)])))
    raw["items"][0].append("a new field")
    raw["new"] = {"of": "the envelope"}
    assert decode(msgspec.msgpack.encode(raw), DispatchEnvelope) == wrap([accepted(1)])


@pytest.mark.parametrize("name", KINDS)
def test_what_the_next_release_adds_anywhere_does_not_hurt(name: str) -> None:
    payload = (GOLDEN / f"{name}-v1.msgpack").read_bytes()
    added = msgspec.msgpack.encode(with_more(msgspec.msgpack.decode(payload)))
    assert added != payload
    assert decode(added, KINDS[name]).items


def with_more(raw: object, free: bool = False) -> object:
    """A new field in each object; `free`: its keys are the application's own."""
    if isinstance(raw, dict):
        inner = {key: with_more(value, free or key == "data") for key, value in raw.items()}
        return inner if free else inner | {"new": {"of": "the next release"}}
    if isinstance(raw, list):
        return [with_more(value, free) for value in raw]
    return raw


def test_what_the_last_release_lacked_at_the_end_has_its_default() -> None:
    raw = msgspec.msgpack.decode(encode(wrap([accepted(1)])))
    raw["items"][0].pop()
    assert decode(msgspec.msgpack.encode(raw), DispatchEnvelope).items[0].category == "info"
