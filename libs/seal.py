"""Encryption at rest (R14): content and tokens under a data key per subject, data keys under the key ring.

Ciphertext: data key id (16 bytes) ‖ nonce (12) ‖ AES-256-GCM output. Wrapped data key: ring key id (8, NUL-padded
ASCII) ‖ nonce (12) ‖ AES-256-GCM output. Associated data binds a ciphertext to its tenant, column and row.
"""

import base64
import binascii
import hashlib
import hmac
import os
import uuid
from collections import OrderedDict
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_ID_BYTES = 16
_RING_ID_BYTES = 8
_NONCE_BYTES = 12


class SealError(Exception):
    """A ciphertext or key cannot be opened: wrong key, wrong row, or damaged."""


class _RingFile(msgspec.Struct, forbid_unknown_fields=True):
    active: str
    keys: dict[str, str]
    index: str


def associated(tenant: str, column: str, row: str) -> bytes:
    """What a ciphertext is bound to, such as `("<application>", "message_events.sealed", "<message id>")`."""
    return f"{tenant}/{column}/{row}".encode()


class KeyRing:
    """Wraps and unwraps data keys, and makes the blind index of tokens. Unwrapped keys are kept for `cache` keys."""

    def __init__(self, active: str, keys: dict[str, bytes], index: bytes, cache: int = 50_000) -> None:
        if active not in keys:
            raise SealError("the active ring key is not in the ring")
        self._active = active
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._index = index
        self._cache: OrderedDict[bytes, DataKey] = OrderedDict()
        self._cache_size = cache

    @classmethod
    def load(cls, path: str | Path) -> "KeyRing":
        """Raises `SealError` without showing any of the file."""
        try:
            parsed = msgspec.json.decode(Path(path).read_bytes(), type=_RingFile)
            keys = {name: base64.b64decode(key, validate=True) for name, key in parsed.keys.items()}
            return cls(parsed.active, keys, base64.b64decode(parsed.index, validate=True))
        except (OSError, msgspec.MsgspecError, binascii.Error, ValueError) as error:
            raise SealError(f"key ring {path} cannot be used: {type(error).__name__}") from None

    def new_key(self, key_id: bytes | None = None) -> tuple["DataKey", bytes]:
        """A fresh data key and its wrapped form, to be stored. `key_id` has 16 bytes; without one it is random."""
        key_id, secret = key_id or uuid.uuid4().bytes, os.urandom(32)
        return DataKey(key_id, secret), self.wrap(key_id, secret)

    def wrap(self, key_id: bytes, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        name = self._active.encode().ljust(_RING_ID_BYTES, b"\0")
        return name + nonce + self._keys[self._active].encrypt(nonce, secret, key_id)

    def unwrap(self, key_id: bytes, wrapped: bytes) -> "DataKey":
        """Raises `SealError` where the ring key is gone or the bytes were changed."""
        cached = self._cache.get(wrapped)
        if cached is not None and cached.key_id == key_id:
            self._cache.move_to_end(wrapped)
            return cached
        ring_key = self._keys.get(wrapped[:_RING_ID_BYTES].rstrip(b"\0").decode("ascii", "replace"))
        if ring_key is None:
            raise SealError("the ring key of a data key is not in the ring")
        nonce, sealed = _split(wrapped, _RING_ID_BYTES)
        try:
            key = DataKey(key_id, ring_key.decrypt(nonce, sealed, key_id))
        except (InvalidTag, ValueError):
            raise SealError("a data key cannot be unwrapped") from None
        self._cache[wrapped] = key
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return key

    def blind_index(self, tenant: str, value: str) -> bytes:
        """Keyed hash by which an equal value of the same tenant is found without being readable."""
        return hmac.digest(self._index, f"{tenant}\0{value}".encode(), hashlib.sha256)


class _Nonces:
    """Random nonces, asked from the system by the thousand: one at a time cost as much as the encryption."""

    def __init__(self) -> None:
        self._pool = b""
        self._next = 0

    def take(self) -> bytes:
        if self._next == len(self._pool):
            self._pool, self._next = os.urandom(_NONCE_BYTES * 1024), 0
        self._next += _NONCE_BYTES
        return self._pool[self._next - _NONCE_BYTES : self._next]

    def forget(self) -> None:
        """A forked child must not use what its parent uses: a nonce repeated under one key breaks GCM."""
        self._pool, self._next = b"", 0


_nonces = _Nonces()
os.register_at_fork(after_in_child=_nonces.forget)


class DataKey:
    """One subject's key."""

    __slots__ = ("_cipher", "key_id")

    def __init__(self, key_id: bytes, secret: bytes) -> None:
        self.key_id = key_id
        self._cipher = AESGCM(secret)

    def seal(self, plain: bytes, bound_to: bytes) -> bytes:
        nonce = _nonces.take()
        return self.key_id + nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Raises `SealError`."""
        if key_id_of(sealed) != self.key_id:
            raise SealError("sealed under another key")
        nonce, body = _split(sealed, KEY_ID_BYTES)
        try:
            return self._cipher.decrypt(nonce, body, bound_to)
        except (InvalidTag, ValueError):
            raise SealError("a ciphertext cannot be opened") from None


def key_id_of(sealed: bytes) -> bytes:
    """The data key that a ciphertext names."""
    return sealed[:KEY_ID_BYTES]


def _split(blob: bytes, offset: int) -> tuple[bytes, bytes]:
    return blob[offset : offset + _NONCE_BYTES], blob[offset + _NONCE_BYTES :]


def new_ring() -> bytes:
    """The JSON of a fresh key ring."""
    secret, index = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    return msgspec.json.encode(_RingFile(active="k1", keys={"k1": secret}, index=index))
