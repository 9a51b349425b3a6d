"""msgspec decides and JSON Schema explains: on what is acceptable they must agree."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.api.messages import BatchBody, ConvertBody, MessageBody, MessageItem, StatusBody
from libs.api.subscriptions import SubscriptionBody
from libs.errors import InvalidRequest, SignalError, ValidationFailed
from services.ingest.decode import MAX_DEPTH, MAX_NAMED, Decoder, decode_batch, too_deep, unstorable
from services.ingest.errors import REASONS

KINDS: list[type[msgspec.Struct]] = [SubscriptionBody, MessageBody, MessageItem, BatchBody, StatusBody, ConvertBody]
DECODERS: dict[type[msgspec.Struct], Decoder[Any]] = {kind: Decoder(kind) for kind in KINDS}
ID = "0199a1b2-c3d4-7890-abcd-ef1234567890"

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=80),
    st.sampled_from([ID, ID + "\n", "", "x" * 64, "x" * 65, "normal", "ad", "token", "KR", "한" * 64, 0, 1, 3, 1.0]),
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def _names(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind)]


def bodies(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Nearly right, or anything at all."""
    push = st.fixed_dictionaries(
        {},
        optional={"badge": scalars, "buttons": trees, "silent": scalars, "interruption_level": scalars, "x": scalars},
    )
    item = {"subscription_id": st.just(ID) | scalars}
    known: dict[str, st.SearchStrategy[Any]] = {
        "subscription_id": st.just(ID) | scalars,
        "push": push | trees,
        "messages": st.lists(st.fixed_dictionaries(item, optional={"ttl": scalars}), max_size=2) | trees,
        "device_info": st.fixed_dictionaries({}, optional={"test_type": scalars, "country_code": scalars}) | trees,
    }
    fields = {name: known.get(name, scalars | trees) for name in _names(kind)}
    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    nearly = st.fixed_dictionaries(
        {name: fields[name] for name in required},
        optional={**{name: fields[name] for name in fields if name not in required}, "x": scalars},
    )
    return nearly | trees


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_msgspec_and_schema_agree(data: st.DataObject, kind: type[msgspec.Struct]) -> None:
    raw = json.dumps(data.draw(bodies(kind))).encode()
    try:
        msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        accepted = False
    else:
        accepted = True
    assert DECODERS[kind].fits(raw) == accepted


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_every_refusal_is_one_of_ours_and_names_fields(data: st.DataObject, kind: type[msgspec.Struct]) -> None:
    refused = refusal(DECODERS[kind].decode, json.dumps(data.draw(bodies(kind))).encode())
    if refused is not None:
        assert refused.details["fields"]
        assert all(reason.kind in REASONS for reason in refused.details["fields"].values())


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(KINDS))
@example(b"\xff", MessageBody)
@example(b"[" * 2000, MessageBody)
@example(b'{"a":' * 2000, BatchBody)
@example(b'{"messages":[' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"]}", BatchBody)
@example(b'{"messages":[' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"]}", BatchBody)
def test_no_bytes_raise_anything_else(raw: bytes, kind: type[msgspec.Struct]) -> None:
    refusal(DECODERS[kind].decode, raw)
    refusal(decode_batch, raw)


@settings(deadline=None)
@given(st.lists(bodies(MessageItem), min_size=1, max_size=4))
def test_batch_decides_each_item_as_it_would_alone(items: list[Any]) -> None:
    batch = decode_batch(json.dumps({"messages": items}).encode())
    assert len(batch.items) == len(items)
    for item, decided in zip(items, batch.items, strict=True):
        raw = json.dumps(item).encode()
        refused = refusal(DECODERS[MessageItem].decode, raw)
        if refused is None:
            assert decided == DECODERS[MessageItem].decode(raw)
        else:
            assert isinstance(decided, type(refused))
            assert decided.details == refused.details


def refusal(decode: Callable[[bytes], Any], raw: bytes) -> SignalError | None:
    """What `decode` says against `raw`; any other exception fails the test."""
    try:
        decode(raw)
    except (InvalidRequest, ValidationFailed) as error:
        return error
    return None


def test_named_fields_are_bounded() -> None:
    raw = json.dumps({f"x{n}": n for n in range(1000)} | {"status": "received"}).encode()
    with pytest.raises(ValidationFailed) as refused:
        DECODERS[StatusBody].decode(raw)
    assert len(refused.value.details["fields"]) == MAX_NAMED


def test_depth_counts_dicts_and_lists() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        assert not too_deep(value)
        value = {"a": value} if isinstance(value, list) else [value]
    assert not too_deep(value)
    assert too_deep([value])
    assert set(unstorable({"data": [value], "title": "x"})) == {"data"}
