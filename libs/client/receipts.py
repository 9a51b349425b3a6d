"""Receipts of a device that is not always online: kept in a file, sent when there is a connection (SEQ-001 §6, §7)."""

import sqlite3
import time
from pathlib import Path

import msgspec

from libs.api.messages import ConvertBody, StatusBody
from libs.client.clients import Client
from libs.client.errors import ApiError, Unreachable

MAX_KEPT = 10_000
"""Beyond that the oldest is dropped: a receipt says nothing that the platform cannot live without."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS receipts (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    kept_at REAL NOT NULL,
    UNIQUE (message_id, kind, body)
)
"""


class ReceiptQueue:
    """Takes receipts at once, and loses none when the process ends before they are sent. For one process at a time."""

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(_SCHEMA)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM receipts").fetchone()[0])

    def close(self) -> None:
        self._db.close()

    def received(self, message_id: str) -> None:
        """The message arrived."""
        self._keep(message_id, "status", StatusBody("received"))

    def converted(self, message_id: str, body: ConvertBody | None = None) -> None:
        """Its user acted on it."""
        self._keep(message_id, "convert", body or ConvertBody())

    def _keep(self, message_id: str, kind: str, body: msgspec.Struct) -> None:
        row = (message_id, kind, msgspec.json.encode(body), time.time())
        self._db.execute("INSERT OR IGNORE INTO receipts (message_id, kind, body, kept_at) VALUES (?, ?, ?, ?)", row)
        self._db.execute(
            "DELETE FROM receipts WHERE id NOT IN (SELECT id FROM receipts ORDER BY id DESC LIMIT ?)", (MAX_KEPT,)
        )

    def flush(self, client: Client) -> int:
        """Send what is kept, in order; returns how many were. Raises `Unreachable` with the rest still kept.

        A receipt that the platform refuses for good (an unknown message) is dropped: it would be refused again.
        """
        sent = 0
        while rows := self._db.execute("SELECT id, message_id, kind, body FROM receipts ORDER BY id LIMIT 100"):
            batch = rows.fetchall()
            if not batch:
                return sent
            for number, message_id, kind, body in batch:
                sent += _report(client, message_id, kind, body)
                self._db.execute("DELETE FROM receipts WHERE id = ?", (number,))
        return sent


def _report(client: Client, message_id: str, kind: str, body: bytes) -> bool:
    try:
        if kind == "status":
            client.messages.status(message_id, msgspec.json.decode(body, type=StatusBody))
        else:
            client.messages.convert(message_id, msgspec.json.decode(body, type=ConvertBody))
    except ApiError as error:
        if error.status >= 500 or error.status in (401, 403, 429):
            raise Unreachable(error.code) from error
        return False
    return True
