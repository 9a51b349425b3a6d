"""Encryption at rest (R14): content and tokens under a data key per subject, data keys under the key ring.

Ciphertext: data key id (16 bytes) ‖ nonce (12) ‖ AES-256-GCM output. Wrapped data key: ring key id (8, NUL-padded
ASCII) ‖ nonce (12) ‖ AES-256-GCM output. Associated data binds a ciphertext to its tenant, column and row.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import uuid
from collections import OrderedDict
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.errors import ServiceUnavailable

KEY_ID_BYTES = 16
_RING_ID_BYTES = 8
_RING_ID = re.compile(rf"[!-~]{{1,{_RING_ID_BYTES}}}")
_NONCE_BYTES = 12


class SealError(Exception):
    """A ciphertext or key cannot be opened: wrong key, wrong row, or damaged."""


class RingKeyUnknown(ServiceUnavailable):
    """A data key is wrapped under a ring key that is not in this process' ring: not yet, or no more.

    That says nothing of the data, so nobody may judge by it: who asked tries again, and the log says what is missing.
    """


class RingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ring as it lies in its file. Keys are 32 bytes in base64, by name: 1 to 8 printable ASCII characters."""

    active: str
    """Under which data keys are wrapped from now on; all others only unwrap."""
    keys: dict[str, str]
    index: str
    """Of the blind index and the hashes of API keys. Never changed: they could not be computed anew."""


def associated(tenant: str, column: str, row: str) -> bytes:
    """What a ciphertext is bound to, such as `("<application>", "message_events.sealed", "<message id>")`."""
    return f"{tenant}/{column}/{row}".encode()


class KeyRing:
    """Wraps and unwraps data keys, and makes the blind index of tokens. Unwrapped keys are kept for `cache` keys."""

    def __init__(self, active: str, keys: dict[str, bytes], index: bytes, cache: int = 50_000) -> None:
        if active not in keys:
            raise SealError("the active ring key is not in the ring")
        self._active = active
        self._secrets = keys
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._index = index
        self._cache: OrderedDict[bytes, DataKey] = OrderedDict()
        self._cache_size = cache
        self._path: Path | None = None
        self._content = b""

    @classmethod
    def load(cls, path: str | Path) -> "KeyRing":
        """Raises `SealError` without showing any of the file."""
        content = _contents(Path(path))
        ring = cls(*_parsed(Path(path), content))
        ring._path, ring._content = Path(path), content
        return ring

    @property
    def active(self) -> str:
        return self._active

    @property
    def names(self) -> list[str]:
        """Of every ring key there is."""
        return sorted(self._keys)

    def refresh(self) -> bool:
        """Read the file again; True when the ring is another now.

        Raises `SealError`, and stays what it was, where the file is unreadable, half written, or another ring's: an
        index or a key of a known name never changes.
        """
        if self._path is None:
            return False
        content = _contents(self._path)
        if content == self._content:
            return False
        active, keys, index = _parsed(self._path, content)
        if index != self._index or any(self._secrets.get(name, key) != key for name, key in keys.items()):
            raise SealError(f"key ring {self._path} cannot be used: it is another ring")
        gone = set(self._keys) - set(keys)
        self._active, self._secrets, self._content = active, keys, content
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        for wrapped in [wrapped for wrapped in self._cache if ring_key_of(wrapped) in gone]:
            del self._cache[wrapped]
        return True

    def new_key(self, key_id: bytes | None = None) -> tuple["DataKey", bytes]:
        """A fresh data key and its wrapped form, to be stored. `key_id` has 16 bytes; without one it is random."""
        key_id, secret = key_id or uuid.uuid4().bytes, os.urandom(32)
        return DataKey(key_id, secret), self.wrap(key_id, secret)

    def wrap(self, key_id: bytes, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        name = self._active.encode().ljust(_RING_ID_BYTES, b"\0")
        return name + nonce + self._keys[self._active].encrypt(nonce, secret, key_id)

    def unwrap(self, key_id: bytes, wrapped: bytes) -> "DataKey":
        """Raises `RingKeyUnknown`, or `SealError` where the bytes were changed."""
        cached = self._cache.get(wrapped)
        if cached is not None and cached.key_id == key_id:
            self._cache.move_to_end(wrapped)
            return cached
        key = DataKey(key_id, self._secret(key_id, wrapped))
        self._cache[wrapped] = key
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return key

    def rewrap(self, key_id: bytes, wrapped: bytes) -> bytes:
        """The same data key under the active ring key. Raises like `unwrap`."""
        return self.wrap(key_id, self._secret(key_id, wrapped))

    def _secret(self, key_id: bytes, wrapped: bytes) -> bytes:
        ring_key = self._ring_key(ring_key_of(wrapped))
        nonce, sealed = _split(wrapped, _RING_ID_BYTES)
        try:
            return ring_key.decrypt(nonce, sealed, key_id)
        except (InvalidTag, ValueError):
            raise SealError("a data key cannot be unwrapped") from None

    def _ring_key(self, name: str) -> AESGCM:
        """One that is new to us may be in the file already: it is looked into at once."""
        if name not in self._keys:
            with contextlib.suppress(SealError):
                self.refresh()
        if name not in self._keys:
            raise RingKeyUnknown(service="key ring", retry_after=1)
        return self._keys[name]

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


def ring_key_of(wrapped: bytes) -> str:
    """The name of the ring key that a wrapped data key is under."""
    return wrapped[:_RING_ID_BYTES].rstrip(b"\0").decode("ascii", "replace")


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SealError(f"key ring {path} cannot be used: {type(error).__name__}") from None


def _parsed(path: Path, content: bytes) -> tuple[str, dict[str, bytes], bytes]:
    """Active key, keys and index."""
    try:
        file = msgspec.json.decode(content, type=RingFile)
        keys = {name: base64.b64decode(key, validate=True) for name, key in file.keys.items()}
        index = base64.b64decode(file.index, validate=True)
        usable = file.active in keys and all(_RING_ID.fullmatch(name) and AESGCM(key) for name, key in keys.items())
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise SealError(f"key ring {path} cannot be used: {type(error).__name__}") from None
    if not usable:
        raise SealError(f"key ring {path} cannot be used: its active key is missing, or a name is not allowed")
    return file.active, keys, index


def _split(blob: bytes, offset: int) -> tuple[bytes, bytes]:
    return blob[offset : offset + _NONCE_BYTES], blob[offset + _NONCE_BYTES :]


def new_ring() -> bytes:
    """The JSON of a fresh key ring."""
    return msgspec.json.encode(RingFile(active="k1", keys={"k1": new_secret()}, index=new_secret()))


def new_secret() -> str:
    """32 random bytes, in base64."""
    return base64.b64encode(os.urandom(32)).decode()
