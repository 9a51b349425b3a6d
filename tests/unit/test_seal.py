"""Encryption at rest: what opens what, and what does not."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.seal import KeyRing, RingKeyUnknown, SealError, associated, key_id_of, new_ring, new_secret, ring_key_of

ROW = associated("shop", "messages.content", "1")


def ring(active: str = "k1", keys: tuple[str, ...] = ("k1",), index: bytes = b"i" * 32, cache: int = 100) -> KeyRing:
    return KeyRing(active, {name: name.encode().ljust(32, b"*") for name in keys}, index, cache)


@given(plain=st.binary(max_size=4096))
def test_what_was_sealed_opens_again(plain: bytes) -> None:
    keys = ring()
    key, wrapped = keys.new_key()
    sealed = key.seal(plain, ROW)
    assert keys.unwrap(key_id_of(sealed), wrapped).open(sealed, ROW) == plain


def test_the_same_plaintext_never_looks_the_same() -> None:
    key, _ = ring().new_key()
    assert key.seal(b"token", ROW) != key.seal(b"token", ROW)


@pytest.mark.parametrize(
    "bound_to",
    [
        associated("other", "messages.content", "1"),
        associated("shop", "messages.title", "1"),
        associated("shop", "messages.content", "2"),
        b"",
    ],
)
def test_a_ciphertext_opens_only_in_its_own_tenant_column_and_row(bound_to: bytes) -> None:
    key, _ = ring().new_key()
    with pytest.raises(SealError):
        key.open(key.seal(b"token", ROW), bound_to)


def test_a_ciphertext_opens_only_under_the_key_it_names() -> None:
    keys = ring()
    (key, _), (other, _) = keys.new_key(), keys.new_key()
    sealed = key.seal(b"token", ROW)
    with pytest.raises(SealError):
        other.open(sealed, ROW)
    with pytest.raises(SealError):
        other.open(other.key_id + sealed[16:], ROW)


def test_every_changed_or_missing_byte_is_noticed() -> None:
    keys = ring()
    key, wrapped = keys.new_key()
    sealed = key.seal(b"token", ROW)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        for broken in (bytes(changed), sealed[:position]):
            with pytest.raises(SealError):
                key.open(broken, ROW)
    for position in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[position] ^= 1
        for broken in (bytes(changed), wrapped[:position]):
            with pytest.raises((SealError, RingKeyUnknown)):
                keys.unwrap(key.key_id, broken)


def test_a_wrapped_key_passes_for_no_other_key_even_when_it_is_remembered() -> None:
    keys = ring()
    (key, wrapped), (other, _) = keys.new_key(), keys.new_key()
    assert keys.unwrap(key.key_id, wrapped).key_id == key.key_id
    with pytest.raises(SealError):
        keys.unwrap(other.key_id, wrapped)


def test_after_rotation_old_keys_still_unwrap_and_new_ones_are_under_the_new_ring_key() -> None:
    key, wrapped = ring().new_key()
    rotated = ring("k2", ("k1", "k2"))
    assert rotated.unwrap(key.key_id, wrapped).key_id == key.key_id
    fresh, fresh_wrapped = rotated.new_key()
    with pytest.raises(RingKeyUnknown):
        ring().unwrap(fresh.key_id, fresh_wrapped)


def test_a_data_key_that_is_wrapped_again_is_the_same_under_the_active_ring_key() -> None:
    key, wrapped = ring().new_key()
    sealed = key.seal(b"token", ROW)
    again = ring("k2", ("k1", "k2")).rewrap(key.key_id, wrapped)
    assert (ring_key_of(wrapped), ring_key_of(again)) == ("k1", "k2")
    assert ring("k2", ("k2",)).unwrap(key.key_id, again).open(sealed, ROW) == b"token"
    with pytest.raises(SealError):
        ring("k2", ("k1", "k2")).rewrap(b"another key's id", wrapped)


def test_more_keys_than_are_remembered_are_unwrapped_all_the_same() -> None:
    keys = ring(cache=2)
    made = [keys.new_key() for _ in range(5)]
    for key, wrapped in made * 2:
        sealed = key.seal(b"token", ROW)
        assert keys.unwrap(key.key_id, wrapped).open(sealed, ROW) == b"token"


def test_the_blind_index_is_equal_for_equal_values_of_one_tenant_under_one_ring() -> None:
    keys = ring()
    assert keys.blind_index("shop", "token") == keys.blind_index("shop", "token")
    others = [
        keys.blind_index("other", "token"),
        keys.blind_index("shop", "tokens"),
        keys.blind_index("shoptoken", ""),
        ring(index=b"j" * 32).blind_index("shop", "token"),
    ]
    assert len({keys.blind_index("shop", "token"), *others}) == 5


def test_a_new_ring_can_be_loaded_and_is_like_no_other(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    path.write_bytes(new_ring())
    loaded = KeyRing.load(path)
    key, wrapped = loaded.new_key()
    assert loaded.unwrap(key.key_id, wrapped).key_id == key.key_id
    path.write_bytes(new_ring())
    with pytest.raises(SealError):
        KeyRing.load(path).unwrap(key.key_id, wrapped)


GOOD: dict[str, Any] = {
    "active": "k1",
    "keys": {"k1": base64.b64encode(b"secret-secret-secret-secret-1234").decode()},
    "index": "aW5k",
}


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"\xff",
        json.dumps({**GOOD, "active": "k2"}).encode(),
        json.dumps({**GOOD, "keys": {"k1": "secret-secret"}}).encode(),
        json.dumps({**GOOD, "keys": {"k1": "c2VjcmV0"}}).encode(),
        json.dumps({**GOOD, "index": "!"}).encode(),
        json.dumps({**GOOD, "extra": 1}).encode(),
        json.dumps({**GOOD, "keys": {**GOOD["keys"], "ninechars": GOOD["keys"]["k1"]}}).encode(),
    ],
    ids=["empty", "cut", "no text", "active is missing", "no base64", "short key", "index", "unknown field", "name"],
)
def test_a_ring_that_cannot_be_used_is_refused_without_being_shown(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "ring.json"
    path.write_bytes(broken)
    with pytest.raises(SealError) as refused:
        KeyRing.load(path)
    assert "secret" not in str(refused.value)
    assert "c2VjcmV0" not in str(refused.value)


def test_a_ring_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(SealError, match=r"absent\.json"):
        KeyRing.load(tmp_path / "absent.json")


def lying_in(path: Path, active: str, secrets: dict[str, str]) -> None:
    path.write_text(json.dumps({"active": active, "keys": secrets, "index": GOOD["index"]}))


def test_a_ring_that_runs_learns_what_its_file_says_later(tmp_path: Path) -> None:
    path, secrets = tmp_path / "ring.json", {name: new_secret() for name in ("k1", "k2")}
    lying_in(path, "k1", {"k1": secrets["k1"]})
    keys = KeyRing.load(path)
    assert not keys.refresh()
    old, old_wrapped = keys.new_key()
    lying_in(path, "k1", secrets)
    assert keys.refresh()
    assert (keys.active, keys.names) == ("k1", ["k1", "k2"])
    lying_in(path, "k2", secrets)
    assert keys.refresh()
    new, new_wrapped = keys.new_key()
    assert ring_key_of(new_wrapped) == "k2"
    assert keys.unwrap(old.key_id, old_wrapped).key_id == old.key_id
    lying_in(path, "k2", {"k2": secrets["k2"]})
    assert keys.refresh()
    with pytest.raises(RingKeyUnknown):  # not even from what is remembered
        keys.unwrap(old.key_id, old_wrapped)
    assert keys.unwrap(new.key_id, new_wrapped).key_id == new.key_id


def test_a_ring_key_that_is_not_known_yet_is_looked_for_in_the_file_at_once(tmp_path: Path) -> None:
    path, secrets = tmp_path / "ring.json", {name: new_secret() for name in ("k1", "k2")}
    lying_in(path, "k1", {"k1": secrets["k1"]})
    late = KeyRing.load(path)
    lying_in(path, "k2", secrets)
    key, wrapped = KeyRing.load(path).new_key()
    assert late.unwrap(key.key_id, wrapped).key_id == key.key_id


@pytest.mark.parametrize("content", [b"", b'{"active": "k1", "ke', new_ring(), b"another index", None])
def test_a_file_that_cannot_be_used_leaves_the_ring_as_it_was(tmp_path: Path, content: bytes | None) -> None:
    path, secret = tmp_path / "ring.json", new_secret()
    lying_in(path, "k1", {"k1": secret})
    keys = KeyRing.load(path)
    key, wrapped = keys.new_key()
    if content is None:
        path.unlink()
    elif content == b"another index":
        path.write_text(json.dumps({"active": "k1", "keys": {"k1": secret}, "index": new_secret()}))
    else:
        path.write_bytes(content)
    with pytest.raises(SealError) as refused:
        keys.refresh()
    assert secret not in str(refused.value)
    assert keys.names == ["k1"]
    assert keys.unwrap(key.key_id, wrapped).key_id == key.key_id
    with pytest.raises(RingKeyUnknown):
        keys.unwrap(key.key_id, b"k2".ljust(8, b"\0") + wrapped[8:])
