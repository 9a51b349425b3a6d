"""Registering subscriptions: many requests in one transaction, each with an answer of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from libs import errors
from libs.coalesce import Coalescer
from libs.ids import is_id, new_id
from libs.pg import Connection, Pool
from libs.rpc import CreateSubscription, Registered, SubscriptionView
from libs.seal import KeyRing, associated
from services.subscription import queries
from services.subscription.queries import NewSubscription, NewUser, User, UserName

PUSH = frozenset({"iOSPush", "AndroidPush", "WebPush"})
TYPES = PUSH | {"Email", "SMS", "KakaoTalk", "InAppMessage"}
MAX_TOKEN = 8192
MAX_USER_ID = 255
BATCH = 500
TRANSACTIONS = 2
"""Under way at once: one is committed while the next is prepared."""

_SUBSCRIBED = 1
_TOKEN_COLUMN = "subscriptions.sealed_token"

Users = dict[UserName, User]


class _Wanted(NamedTuple):
    request: CreateSubscription
    token_hash: bytes
    user: UserName | None


class Registrar:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring
        self._coalescer = Coalescer[_Wanted, SubscriptionView](
            self._register, max_items=BATCH, concurrency=TRANSACTIONS
        )

    async def create(self, request: CreateSubscription) -> Registered:
        """Raises `DuplicateSubscription`, `InvalidSubscriptionType`, `InvalidToken`, `ValidationFailed`."""
        _check(request)
        value = request.token.lower() if request.type == "iOSPush" else request.token  # APNs tokens are hexadecimal
        token_hash = self._ring.blind_index(request.application_id, f"{request.type}\0{value}")
        user = None if request.user_id is None else UserName(request.application_id, request.user_id)
        return Registered(await self._coalescer.submit(_Wanted(request, token_hash, user)), created=True)

    async def _register(self, batch: list[_Wanted]) -> list[SubscriptionView | Exception]:
        """A batch that Postgres refuses is halved until what is wrong stands alone (R15)."""
        try:
            async with self._pool.transaction() as c:
                return await self._insert(c, batch)
        except errors.SignalError:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [error]
        middle = len(batch) // 2
        return [*await self._register(batch[:middle]), *await self._register(batch[middle:])]

    async def _insert(self, c: Connection, batch: list[_Wanted]) -> list[SubscriptionView | Exception]:
        users = await self._users(c, {w.user: None for w in batch if w.user is not None})
        rows = [self._row(wanted, users) for wanted in batch]
        made = await queries.insert_subscriptions(c, rows)
        refused = [(row.application_id, row.token_hash) for row in rows if row.id not in made]
        taken = await queries.find_by_token(c, refused) if refused else {}
        return [
            _view(wanted, row, users, made[row.id])
            if row.id in made
            else _refusal(taken.get((row.application_id, row.token_hash)))
            for wanted, row in zip(batch, rows, strict=True)
        ]

    async def _users(self, c: Connection, named: dict[UserName, None]) -> Users:
        """Find them, or make them under the external id given. Safe against another process that does the same."""
        if not named:
            return {}
        found = await queries.find_users(c, _asked(named))
        missing = [name for name in named if name not in found]
        if missing:
            await queries.insert_users(c, [self._new_user(name) for name in missing])
            found.update(await queries.find_users(c, _asked(missing)))
        return found

    def _new_user(self, name: UserName) -> NewUser:
        key, wrapped = self._ring.new_key()
        return NewUser(new_id(), name.application_id, name.name, key.key_id.hex(), wrapped)

    def _row(self, wanted: _Wanted, users: Users) -> NewSubscription:
        request, subscription_id = wanted.request, new_id()
        user = users[wanted.user] if wanted.user is not None else None
        if user is None:
            key, wrapped = self._ring.new_key()
        else:
            key, wrapped = self._ring.unwrap(user.key_id, user.wrapped), None
        consent = request.type in PUSH if request.ad_consent is None else request.ad_consent
        return NewSubscription(
            id=subscription_id,
            application_id=request.application_id,
            type=request.type,
            user_id=user.id if user is not None else None,
            key_id=key.key_id.hex(),
            wrapped=wrapped,
            token_hash=wanted.token_hash,
            token_hint=request.token[-4:],
            token_kind=request.token_kind,
            sealed_token=key.seal(
                request.token.encode(), associated(request.application_id, _TOKEN_COLUMN, subscription_id)
            ),
            device_info=msgspec.to_builtins(request.device_info),
            ad_consent=consent,
            actor=request.actor,
            note={"status": _SUBSCRIBED, "ad_consent": consent, "consent_given": request.ad_consent is not None},
        )


def _asked(names: Sequence[UserName] | dict[UserName, None]) -> dict[UserName, str | None]:
    return {name: name.name if is_id(name.name) else None for name in names}


def _check(request: CreateSubscription) -> None:
    """The gateway knows the form of each token; here stands what this service itself relies on."""
    if request.type not in TYPES:
        raise errors.InvalidSubscriptionType(type=request.type[:64])
    if not 1 <= len(request.token) <= MAX_TOKEN or not request.token.isprintable():
        raise errors.InvalidToken(type=request.type)
    wrong = {}
    if not is_id(request.application_id):
        wrong["application_id"] = "must be a UUID"
    if request.user_id is not None and (not 1 <= len(request.user_id) <= MAX_USER_ID or "\0" in request.user_id):
        wrong["user_id"] = f"must have 1 to {MAX_USER_ID} characters"
    if any(isinstance(value, str) and "\0" in value for value in msgspec.structs.astuple(request.device_info)):
        wrong["device_info"] = "must not contain NUL"
    if wrong:
        raise errors.ValidationFailed(fields=wrong)


def _refusal(owner: str | None) -> Exception:
    if owner is not None:
        return errors.DuplicateSubscription(subscription_id=owner)
    return errors.ServiceUnavailable(service="subscription", retry_after=1)  # its owner was archived at this moment


def _view(wanted: _Wanted, row: NewSubscription, users: Users, created_at_ms: int) -> SubscriptionView:
    user = users[wanted.user] if wanted.user is not None else None
    return SubscriptionView(
        id=row.id,
        type=row.type,
        subscription_status=_SUBSCRIBED,
        token_hint=row.token_hint,
        created_at_ms=created_at_ms,
        updated_at_ms=created_at_ms,
        user_id=user.id if user is not None else None,
        external_id=user.external_id if user is not None else None,
        device_info=wanted.request.device_info,
        ad_consent=row.ad_consent,
        subscribed_at_ms=created_at_ms,
    )
