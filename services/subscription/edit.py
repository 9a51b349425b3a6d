"""What may happen to one subscription, each with its line in the history. Statuses are decided by `status` alone."""

from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET, UnsetType

from libs import rpc, tokens
from libs.errors import ValidationFailed
from libs.policy import SAME_TIMES, QuietHours, is_empty
from libs.seal import DataKey, KeyRing, SealError, associated
from services.subscription.queries import User
from services.subscription.rows import Draft, Fact, Key, Row
from services.subscription.status import Event, fact_kind, inherited, next_status, state_of

MAX_TAGS = 100
"""Of one subscription."""
TOO_MANY_TAGS = "must be at most 100 on one subscription"
MAX_TAG_NAME = 128
MAX_TAG_VALUE = 256
"""Characters."""
ACTIVE_STEP_MS = 60_000
"""`last_active_at` and the time of a token that is registered again move at most once a minute."""
TOKEN_COLUMN = "subscriptions.sealed_token"


class Who(msgspec.Struct, frozen=True):
    """Whose act it is, as the history tells it."""

    actor: str
    source: rpc.Act


class Token(msgspec.Struct, frozen=True):
    """A token in its normal form."""

    text: str
    kind: tokens.TokenKind
    hash: bytes


def token_of(ring: KeyRing, application_id: str, kind: str, text: str, token_kind: tokens.TokenKind) -> Token:
    """Raises `InvalidSubscriptionType`, `InvalidToken`."""
    normal = tokens.normalised(kind, text, token_kind)
    return Token(normal, token_kind, ring.blind_index(application_id, f"{kind}\0{normal}"))


def own_key(ring: KeyRing, subscription_id: str) -> tuple[DataKey, bytes]:
    """The first own key of a subscription: it has its id, and its wrapped form is kept in the row."""
    return ring.new_key(UUID(subscription_id).bytes)


def sealed(key: DataKey, application_id: str, subscription_id: str, token: str) -> bytes:
    return key.seal(token.encode(), associated(application_id, TOKEN_COLUMN, subscription_id))


def has_nul(device: rpc.DeviceInfo) -> bool:
    """What Postgres cannot keep."""
    return any(isinstance(value, str) and "\0" in value for value in msgspec.structs.astuple(device))


def plain(hours: QuietHours | UnsetType | None) -> dict[str, Any] | None:
    """As JSON keeps it."""
    return msgspec.json.decode(msgspec.json.encode(hours)) if isinstance(hours, QuietHours) else None


def check_quiet_hours(hours: QuietHours | UnsetType | None) -> None:
    """Raises `ValidationFailed`."""
    if isinstance(hours, QuietHours) and is_empty(hours):
        raise ValidationFailed(fields={"quiet_hours.end": SAME_TIMES})


class Edit:
    """One request's changes to one row. What does not differ leaves no trace."""

    def __init__(self, row: Row, who: Who, now_ms: int, ring: KeyRing) -> None:
        self.row = row
        self._who = who
        self._now_ms = now_ms
        self._ring = ring
        self._facts: list[Fact] = []
        self._keys: list[Key] = []

    def draft(self) -> Draft:
        if self._facts:
            self._set(updated_at_ms=self._now_ms)
        return Draft(self.row, self._facts, self._keys)

    def status(self, event: Event, *, code: int = 1, reason: str | None = None, **data: Any) -> None:
        """Raises `ValidationFailed`, `PermissionDenied`. Consent is noted each time that it is given."""
        before = self.row.status
        after = next_status(before, event, kind=self.row.type, act=self._who.source, code=code)
        if after != before or event == "enable":
            self._to(after)
            self._note(fact_kind(event, after), reason, {"from": before, "status": after, **data})

    def token(self, token: Token, reason: str | None = None) -> None:
        """Another token, or the same again: then it only heals, and a rejection from before does not count any more."""
        row = self.row
        after = next_status(row.status, "token_updated", kind=row.type)
        if token.hash == row.token_hash and token.kind == row.token_kind and after == row.status:
            if row.registered_at_ms + ACTIVE_STEP_MS <= self._now_ms:
                self._set(registered_at_ms=self._now_ms)
            return
        self._seal(token.text)
        self._set(
            token_hash=token.hash,
            token_hint=tokens.hint(row.type, token.text),
            token_kind=token.kind,
            token_version=row.token_version + 1,
            registered_at_ms=self._now_ms,
        )
        data = {"token_version": self.row.token_version, "from": row.status, "status": after}
        self._to(after)
        self._note("token_updated", reason, data)

    def inherit(self, former: Row) -> None:
        """What was refused, or not agreed to, at the subscription whose token comes here is so here too."""
        before, after = self.row.status, inherited(self.row.status, former.status)
        if after != before:
            self._to(after)
            data = {"from": before, "status": after, "archived": former.id}
            self._note("status_changed", "token_taken_over", data)
        self.consent(
            ad=self.row.ad_consent and former.ad_consent, night=self.row.night_consent and former.night_consent
        )
        if self.row.quiet_hours is None:
            self._keep_hours(former.quiet_hours)  # as they are stored, with what a later release added

    def device(self, told: rpc.DeviceInfo | None) -> None:
        given = {} if told is None else msgspec.to_builtins(told)
        changed = sorted(name for name, value in given.items() if self.row.device_info.get(name) != value)
        if changed:
            self._set(device_info={**self.row.device_info, **given})
            self._note("device_updated", None, {"fields": changed})

    def consent(self, *, ad: bool | None = None, night: bool | None = None) -> None:
        given = {"ad_consent": ad, "night_consent": night}
        changed = {name: value for name, value in given.items() if value not in (None, getattr(self.row, name))}
        if changed:
            self._set(**changed)
            self._note("consent_changed", None, changed)

    def quiet_hours(self, hours: QuietHours | UnsetType | None) -> None:
        if hours is not UNSET:
            self._keep_hours(plain(hours))

    def _keep_hours(self, hours: dict[str, Any] | None) -> None:
        if hours != self.row.quiet_hours:
            self._set(quiet_hours=hours)
            self._note("consent_changed", None, {"quiet_hours": hours})

    def tags(self, add: dict[str, str], remove: list[str]) -> None:
        """Raises `ValidationFailed` where there would be too many."""
        before = self.row.tags
        after = {name: value for name, value in before.items() if name not in remove} | add
        if len(after) > MAX_TAGS:
            raise ValidationFailed(fields={"tags": TOO_MANY_TAGS}, subscription_id=self.row.id)
        added = sorted(name for name, value in add.items() if before.get(name) != value)
        removed = sorted(name for name in before if name not in after)
        if added or removed:
            self._set(tags=after)
            self._note("tags_changed", None, {"added": added, "removed": removed})

    def user(self, user: User | None) -> None:
        """Links the person, or nobody; whose it was before has no part in it any more.

        What was sent while nobody was known is theirs from now on: they adopt its key, and the subscription gets a
        fresh one, under which its token is sealed anew (R14).
        """
        row = self.row
        if row.user_id == (user.id if user is not None else None):
            return
        if row.users_key:
            self.rekey()  # theirs goes with them
        if row.user_id is not None:
            self._note("user_unlinked", None, {"user_id": row.user_id})
        if user is None:
            self._set(user_id=None, external_id=None)
            return
        if row.user_id is None and self.rekey():
            self._keys.append(_own(row, user.id))
        self._set(user_id=user.id, external_id=user.external_id)
        self._note("user_linked", None, {"user_id": user.id})

    def rekey(self) -> bool:
        """A fresh own key, its token sealed anew. False: nothing under the key so far can be read, by anybody."""
        row = self.row
        if row.own_wrapped is None:
            return False
        bound_to = associated(row.application_id, TOKEN_COLUMN, row.id)
        try:
            text = self._ring.unwrap(UUID(row.key_id).bytes, row.own_wrapped).open(row.sealed_token, bound_to).decode()
        except SealError:
            return False
        self._set(sealed_token=sealed(self._fresh_key(), row.application_id, row.id, text))
        return True

    def installation(self, installation_id: str | None) -> None:
        if installation_id is not None and installation_id != self.row.installation_id:
            self._set(installation_id=installation_id)
            self._note("device_updated", None, {"fields": ["installation_id"]})

    def secret(self, stored_hash: bytes) -> None:
        self._set(secret_hash=stored_hash)
        self._note("device_updated", "secret_renewed", {})

    def active(self) -> None:
        last = self.row.last_active_at_ms
        if last is None or last + ACTIVE_STEP_MS <= self._now_ms:
            self._set(last_active_at_ms=self._now_ms)

    def archive(self, reason: str | None = None, **data: Any) -> None:
        self._set(archived_at_ms=self._now_ms)
        self._note("archived", reason, data)

    def _to(self, status: int) -> None:
        was, now = state_of(self.row.status), state_of(status)
        if now == "active" and was != "active":
            self._set(subscribed_at_ms=self._now_ms)
        if now != "active" and (was == "active" or now in ("unsubscribed", "by_api")):
            self._set(unsubscribed_at_ms=self._now_ms)
        self._set(status=status)

    def _seal(self, text: str) -> None:
        """Under its own key; one whose key is its user's, or was destroyed, gets one."""
        row = self.row
        if row.users_key or row.own_wrapped is None:
            key = self._fresh_key()
        else:
            key = self._ring.unwrap(UUID(row.key_id).bytes, row.own_wrapped)
        self._set(sealed_token=sealed(key, row.application_id, row.id, text))

    def _fresh_key(self) -> DataKey:
        fresh_id = str(uuid4())
        key, wrapped = self._ring.new_key(UUID(fresh_id).bytes)
        self._set(key_id=fresh_id, wrapped_key=None, own_wrapped=wrapped, users_key=False)
        self._keys.append(_own(self.row, None))
        return key

    def _set(self, **values: Any) -> None:
        self.row = msgspec.structs.replace(self.row, **values)

    def _note(self, kind: str, reason: str | None, data: dict[str, Any]) -> None:
        who = self._who
        self._facts.append(Fact(self.row.id, self.row.application_id, kind, who.actor, who.source, reason, data))


def _own(row: Row, user_id: str | None) -> Key:
    """Its own key so far, for `data_keys`; adopted by a user or not."""
    return Key(row.key_id, row.application_id, row.own_wrapped or b"", user_id, row.id)
