"""Looks for words everywhere the platform keeps something: tables, also with every key that is left, and streams."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import nats.js.errors
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.bus import Bus
from libs.pg import single_connection

_TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
_WRAPPED = """
SELECT id AS key_id, wrapped FROM subscription.data_keys
UNION ALL SELECT key_id, wrapped_key FROM subscription.subscriptions WHERE wrapped_key IS NOT NULL
"""
_KEY_ID, _RING_ID, _NONCE, _TAG = 16, 8, 12, 16


async def in_tables(dsn: str, ring_file: Path, words: Iterable[str]) -> dict[str, str]:
    """Words that are found, each with where: as text, as bytes, or within what any key that is left opens."""
    found: dict[str, str] = {}
    async with single_connection(dsn) as connection:
        keys = [_secret(ring_file, row["key_id"].bytes, row["wrapped"]) for row in await connection.fetch(_WRAPPED)]
        for (table,) in await connection.fetch(_TABLES):
            for row in await connection.fetch(f"SELECT t::text AS whole, t.* FROM {table} AS t"):
                for piece in _pieces(row, keys):
                    found.update({word: table for word in words if _holds(piece, word)})
    return found


def _pieces(row: asyncpg.Record, keys: list[bytes]) -> Iterator[bytes]:
    yield row["whole"].encode()
    for value in row.values():
        if isinstance(value, bytes):
            yield value
            yield from (_opened(value, key) for key in keys if len(value) > _KEY_ID + _NONCE + _TAG)


def _opened(sealed: bytes, secret: bytes) -> bytes:
    """AES-GCM without its tag, so that it opens whatever row, column or tenant the text was bound to."""
    nonce = sealed[_KEY_ID : _KEY_ID + _NONCE]
    stream = Cipher(algorithms.AES(secret), modes.CTR(nonce + b"\0\0\0\2")).decryptor()
    return stream.update(sealed[_KEY_ID + _NONCE : -_TAG])


def _secret(ring_file: Path, key_id: bytes, wrapped: bytes) -> bytes:
    ring = json.loads(ring_file.read_bytes())["keys"]
    ring_key = base64.b64decode(ring[wrapped[:_RING_ID].rstrip(b"\0").decode()])
    nonce, sealed = wrapped[_RING_ID : _RING_ID + _NONCE], wrapped[_RING_ID + _NONCE :]
    return AESGCM(ring_key).decrypt(nonce, sealed, key_id)


async def in_streams(bus: Bus, words: Iterable[str]) -> dict[str, str]:
    """Words that are found in any message of any stream: subject, headers or payload."""
    found: dict[str, str] = {}
    for info in await bus.js.streams_info():
        name = info.config.name or ""
        async for piece in _messages(bus, name, info.state.first_seq, info.state.last_seq):
            found.update({word: name for word in words if _holds(piece, word)})
    return found


async def _messages(bus: Bus, stream: str, first: int, last: int) -> Any:
    for sequence in range(max(first, 1), last + 1):
        try:
            message = await bus.js.get_msg(stream, seq=sequence)
        except nats.js.errors.NotFoundError:  # acknowledged, and gone
            continue
        yield b"\n".join([(message.subject or "").encode(), repr(message.headers).encode(), message.data or b""])


def in_text(text: str, words: Iterable[str]) -> set[str]:
    return {word for word in words if _holds(text.encode(), word)}


def _holds(piece: bytes, word: str) -> bool:
    """As it is, in JSON's escapes, in hexadecimal, in base64 at any offset, in whatever case."""
    low = piece.lower()
    raw = word.encode()
    forms = [
        raw.lower(),
        json.dumps(word)[1:-1].encode().lower(),
        raw.hex().encode(),
        word.lower().encode().hex().encode(),
    ]
    return any(form in low for form in forms) or any(form in piece for form in _base64(raw))


def _base64(raw: bytes) -> list[bytes]:
    """What stands for `raw` in base64, whatever lies before and behind it."""
    skipped = {0: 0, 1: 2, 2: 3}
    return [base64.b64encode(b"\0" * lead + raw).rstrip(b"=")[skip:-2] for lead, skip in skipped.items()]
