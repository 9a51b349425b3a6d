"""Subscriptions as one transaction sees and leaves them: read under lock, changed in memory, written at the end."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from libs import rpc
from libs.policy import QuietHours
from libs.tokens import TokenKind


class Row(msgspec.Struct, frozen=True):
    """One subscription. The fields to `archived_at_ms` are written, in this order."""

    id: str
    application_id: str
    type: str
    status: int
    user_id: str | None
    key_id: str
    """UUID of its own data key."""
    wrapped_key: bytes | None
    """None: the key is kept in `data_keys`."""
    token_hash: bytes
    token_hint: str
    token_kind: TokenKind
    token_version: int
    registered_at_ms: int
    sealed_token: bytes
    device_info: dict[str, Any]
    tags: dict[str, str]
    ad_consent: bool
    night_consent: bool
    quiet_hours: dict[str, Any] | None
    installation_id: str | None
    secret_hash: bytes | None
    updated_at_ms: int
    subscribed_at_ms: int | None
    unsubscribed_at_ms: int | None
    last_active_at_ms: int | None
    archived_at_ms: int | None
    created_at_ms: int
    external_id: str | None
    own_wrapped: bytes | None
    """The key of `key_id`, wherever it is kept; None: it was destroyed."""
    users_key: bool
    """True: `key_id` is its user's key, as it was before subscriptions had keys of their own."""
    read_at_ms: int
    """The transaction's time."""


WRITTEN_FIELDS = Row.__struct_fields__[: Row.__struct_fields__.index("archived_at_ms") + 1]


class Fact(NamedTuple):
    """One line of the history, its fields in the order of the INSERT. Names may stand in `data`, values may not."""

    subscription_id: str
    application_id: str
    kind: str
    actor: str
    source: str
    reason: str | None
    data: Mapping[str, Any]


class Key(NamedTuple):
    """A data key that is not kept in its subscription's row, its fields in the order of the INSERT."""

    id: str
    application_id: str
    wrapped: bytes
    user_id: str | None
    """Erasing this person destroys it."""
    subscription_id: str
    """Whose own key it is, or was until the user adopted it."""


class Draft(NamedTuple):
    """What one request makes of one row."""

    row: Row
    facts: list[Fact]
    keys: list[Key]


class Book:
    """The rows of one transaction, found by what identifies them."""

    def __init__(self, rows: Iterable[Row], now_ms: int) -> None:
        self.now_ms = now_ms
        self.made: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        self.facts: list[Fact] = []
        self.keys: list[Key] = []
        self._rows: dict[str, Row] = {}
        self._tokens: dict[tuple[str, bytes], str] = {}
        self._installations: dict[tuple[str, str, str], str] = {}
        for row in rows:
            self._file(row)

    def know(self, owners: Mapping[tuple[str, bytes], str]) -> None:
        """Whose tokens are, beyond these rows."""
        self._tokens = {**owners, **self._tokens}

    def find(self, application_id: str, subscription_id: str) -> Row | None:
        row = self._rows.get(subscription_id)
        there = row is not None and row.application_id == application_id and row.archived_at_ms is None
        return row if there else None

    def owner_of(self, application_id: str, token_hash: bytes) -> str | None:
        """Id of the subscription that has this token, here or beyond these rows."""
        return self._tokens.get((application_id, token_hash))

    def by_token(self, application_id: str, token_hash: bytes) -> Row | None:
        return self._rows.get(self._tokens.get((application_id, token_hash), ""))

    def by_installation(self, application_id: str, kind: str, installation_id: str) -> Row | None:
        return self._rows.get(self._installations.get((application_id, kind, installation_id), ""))

    def make(self, draft: Draft) -> None:
        self.made[draft.row.id] = None
        self._note(draft)

    def put(self, draft: Draft) -> None:
        """Keeps what became of a row; what is as it was is not written."""
        if draft.facts or draft.row != self._rows[draft.row.id]:
            if draft.row.id not in self.made:
                self.changed[draft.row.id] = None
            self._note(draft)

    def rows(self, ids: Iterable[str]) -> list[Row]:
        return [self._rows[each] for each in ids]

    def _note(self, draft: Draft) -> None:
        before = self._rows.get(draft.row.id)
        if before is not None:
            self._forget(before)
        self._file(draft.row)
        self.facts += draft.facts
        self.keys += draft.keys

    def _file(self, row: Row) -> None:
        self._rows[row.id] = row
        if row.archived_at_ms is None:
            self._tokens[row.application_id, row.token_hash] = row.id
            if row.installation_id is not None:
                self._installations[row.application_id, row.type, row.installation_id] = row.id

    def _forget(self, row: Row) -> None:
        if self._tokens.get((row.application_id, row.token_hash)) == row.id:
            del self._tokens[row.application_id, row.token_hash]
        place = (row.application_id, row.type, row.installation_id or "")
        if self._installations.get(place) == row.id:
            del self._installations[place]


def view_of(row: Row) -> rpc.SubscriptionView:
    return rpc.SubscriptionView(
        id=row.id,
        type=row.type,
        subscription_status=row.status,
        token_hint=row.token_hint,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        user_id=row.user_id,
        external_id=row.external_id,
        device_info=msgspec.convert(row.device_info, rpc.DeviceInfo),
        tags=row.tags,
        ad_consent=row.ad_consent,
        subscribed_at_ms=row.subscribed_at_ms,
        unsubscribed_at_ms=row.unsubscribed_at_ms,
        last_active_at_ms=row.last_active_at_ms,
        installation_id=row.installation_id,
        night_consent=row.night_consent,
        token_updated_at_ms=row.registered_at_ms,
        quiet_hours=msgspec.convert(row.quiet_hours, QuietHours | None),
    )
