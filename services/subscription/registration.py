"""Registering subscriptions: many requests in one transaction, each with an answer of its own.

A token belongs to one subscription, and an installation of an app is one subscription: whoever comes again is brought
up to date, never added a second time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from libs import errors, tokens
from libs.coalesce import Coalescer
from libs.ids import is_id, new_id
from libs.pg import Connection, Pool
from libs.rpc import CreateSubscription, Registered
from libs.seal import KeyRing
from services.subscription import persons, queries
from services.subscription.changes import BATCH, TRANSACTIONS, settle, write
from services.subscription.edit import Edit, Token, Who, check_quiet_hours, has_nul, own_key, plain, sealed, token_of
from services.subscription.queries import User, UserName
from services.subscription.queries_users import Person
from services.subscription.rows import Book, Draft, Fact, Row, view_of
from services.subscription.secret import Secret, new_secret
from services.subscription.status import PENDING, first_status
from services.subscription.tags import check_tags

PUSH = frozenset({"iOSPush", "AndroidPush", "WebPush"})
MAX_USER_ID = 255
MAX_INSTALLATION_ID = 128

Persons = Mapping[UserName, Person]


class _Wanted(NamedTuple):
    request: CreateSubscription
    token: Token
    status: int
    user: UserName | None

    @property
    def who(self) -> Who:
        return Who(self.request.actor, self.request.act)


class Registrar:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring
        self._coalescer = Coalescer[_Wanted, Registered](self._settle, max_items=BATCH, concurrency=TRANSACTIONS)

    async def create(self, request: CreateSubscription) -> Registered:
        """Raises what `CreateSubscription` names."""
        return await self._coalescer.submit(self._wanted(request))

    async def many(self, requests: Sequence[CreateSubscription]) -> list[Registered | Exception]:
        """All in one transaction, each with an answer of its own. Raises `ServiceUnavailable`."""
        answers: dict[int, Registered | Exception] = {}
        wanted: dict[int, _Wanted] = {}
        for n, request in enumerate(requests):
            try:
                wanted[n] = self._wanted(request)
            except errors.SignalError as error:
                answers[n] = error
        if wanted:
            answers.update(zip(wanted, await self._settle(list(wanted.values())), strict=True))
        return [answers[n] for n in range(len(requests))]

    def _wanted(self, request: CreateSubscription) -> _Wanted:
        _check(request)
        owner = request.application_id.lower()
        request = msgspec.structs.replace(request, application_id=owner)
        token = token_of(self._ring, owner, request.type, request.token, request.token_kind)
        status = first_status(request.type, double_opt_in=request.double_opt_in)
        return _Wanted(request, token, status, None if request.user_id is None else UserName(owner, request.user_id))

    async def _settle(self, batch: list[_Wanted]) -> list[Registered | Exception]:
        return await settle(self._pool, batch, self._round)

    async def _round(self, c: Connection, batch: list[_Wanted]) -> list[Registered | Exception]:
        found = await persons.find_or_make(c, self._ring, {w.user: None for w in batch if w.user is not None})
        hashes = dict.fromkeys((w.request.application_id, w.token.hash) for w in batch)
        installations = dict.fromkeys(
            (w.request.application_id, w.request.type, w.request.installation_id)
            for w in batch
            if w.request.installation_id is not None
        )
        book = Book(await queries.lock_registered(c, list(hashes), list(installations)), await queries.now_ms(c))
        ids = [(w.request.application_id, w.request.new_id) for w in batch if w.request.new_id is not None]
        taken = await queries.find_taken_ids(c, ids) if ids else set()
        answers = [self._answer(wanted, found, book, taken) for wanted in batch]
        await write(c, book)
        return answers

    def _answer(self, wanted: _Wanted, found: Persons, book: Book, taken: set[str]) -> Registered | Exception:
        try:
            return self._register(wanted, found[wanted.user] if wanted.user is not None else None, book, taken)
        except errors.SignalError as error:
            return error

    def _register(self, wanted: _Wanted, user: Person | None, book: Book, taken: set[str]) -> Registered:
        request = wanted.request
        holder = book.by_token(request.application_id, wanted.token.hash)
        installed = None
        if request.installation_id is not None:
            installed = book.by_installation(request.application_id, request.type, request.installation_id)
        if holder is None and installed is None:
            return self._make(wanted, user, book, taken)
        _check_authority(request, installed, holder)
        known = installed or holder
        if holder is not None and known is holder and not request.upsert:
            if holder.id != request.new_id:
                raise errors.DuplicateSubscription(subscription_id=holder.id)
            return self._repeat(wanted, holder, book)
        if known is None:
            raise errors.InternalError(reason="neither token nor installation is known")
        return self._refresh(wanted, user, book, known, holder if known is not holder else None)

    def _make(self, wanted: _Wanted, user: Person | None, book: Book, taken: set[str]) -> Registered:
        request = wanted.request
        chosen = (request.new_id or new_id()).lower()
        if chosen in taken or chosen in book.made:  # its token was replaced, or it was archived, since
            chosen = new_id()
        secret = new_secret(self._ring) if request.client else None
        row = self._row(wanted, user, chosen, secret, book.now_ms)
        fact = Fact(
            row.id, row.application_id, "created", wanted.who.actor, wanted.who.source, None, _agreed(row, request)
        )
        book.make(Draft(row, [fact], []))
        return Registered(view_of(row), created=True, secret=secret.text if secret else None)

    def _row(self, wanted: _Wanted, user: Person | None, chosen: str, secret: Secret | None, now_ms: int) -> Row:
        request, token = wanted.request, wanted.token
        key, wrapped = own_key(self._ring, chosen)
        return Row(
            id=chosen,
            application_id=request.application_id,
            type=request.type,
            status=wanted.status,
            user_id=user.id if user is not None else None,
            key_id=chosen,
            wrapped_key=wrapped,
            token_hash=token.hash,
            token_hint=tokens.hint(request.type, token.text),
            token_kind=token.kind,
            token_version=1,
            registered_at_ms=now_ms,
            sealed_token=sealed(key, request.application_id, chosen, token.text),
            device_info=msgspec.to_builtins(request.device_info),
            tags=dict(request.tags),
            ad_consent=request.type in PUSH if request.ad_consent is None else request.ad_consent,
            night_consent=bool(request.night_consent),
            quiet_hours=plain(request.quiet_hours),
            installation_id=request.installation_id,
            secret_hash=secret.stored_hash if secret else None,
            updated_at_ms=now_ms,
            subscribed_at_ms=now_ms if wanted.status > 0 else None,
            unsubscribed_at_ms=None,
            last_active_at_ms=now_ms if request.client or request.upsert else None,
            archived_at_ms=None,
            created_at_ms=now_ms,
            external_id=user.external_id if user is not None else None,
            own_wrapped=wrapped,
            users_key=False,
            read_at_ms=now_ms,
        )

    def _repeat(self, wanted: _Wanted, row: Row, book: Book) -> Registered:
        """The same request again, whose answer was lost: the secret in it too, so there is a new one."""
        edit = Edit(row, wanted.who, book.now_ms, self._ring)
        secret = self._renewed(edit) if wanted.request.client else None
        book.put(edit.draft())
        return Registered(view_of(edit.row), created=True, secret=secret)

    def _refresh(self, wanted: _Wanted, user: Person | None, book: Book, known: Row, former: Row | None) -> Registered:
        """`former`: another subscription, whose token this installation has now."""
        request = wanted.request
        edit = Edit(known, wanted.who, book.now_ms, self._ring)
        edit.token(wanted.token, "reinstalled" if former is not None else None)
        if former is not None:
            self._take_over(wanted, book, edit, former)
        if wanted.status == PENDING and wanted.token.hash != known.token_hash:
            edit.status("unconfirmed", reason="double_opt_in")
        edit.installation(request.installation_id)
        edit.device(request.device_info)
        edit.consent(ad=request.ad_consent, night=request.night_consent)
        edit.quiet_hours(request.quiet_hours)
        edit.tags(request.tags, [])
        if user is not None:
            edit.user(User(user.id, user.external_id))
        edit.active()
        secret = self._renewed(edit) if request.client and request.bearer != known.id else None
        book.put(edit.draft())
        return Registered(view_of(edit.row), created=False, secret=secret)

    def _take_over(self, wanted: _Wanted, book: Book, edit: Edit, former: Row) -> None:
        edit.inherit(former)
        leaving = Edit(former, wanted.who, book.now_ms, self._ring)
        leaving.archive("token_taken_over", by=edit.row.id)
        book.put(leaving.draft())

    def _renewed(self, edit: Edit) -> str:
        secret = new_secret(self._ring)
        edit.secret(secret.stored_hash)
        return secret.text


def _agreed(row: Row, request: CreateSubscription) -> dict[str, Any]:
    """How it begins, for the history."""
    data = {"status": row.status, "ad_consent": row.ad_consent, "consent_given": request.ad_consent is not None}
    if row.night_consent:
        data["night_consent"] = True
    return data if row.quiet_hours is None else {**data, "quiet_hours": row.quiet_hours}


def _check(request: CreateSubscription) -> None:
    wrong = {}
    if not is_id(request.application_id):
        wrong["application_id"] = "must be a UUID"
    if request.user_id is not None and (not 1 <= len(request.user_id) <= MAX_USER_ID or "\0" in request.user_id):
        wrong["user_id"] = f"must have 1 to {MAX_USER_ID} characters"
    installation = request.installation_id
    if installation is not None and (not 1 <= len(installation) <= MAX_INSTALLATION_ID or "\0" in installation):
        wrong["installation_id"] = f"must have 1 to {MAX_INSTALLATION_ID} characters"
    if has_nul(request.device_info):
        wrong["device_info"] = "must not contain U+0000"
    if wrong:
        raise errors.ValidationFailed(fields=wrong)
    check_tags(request.tags)
    check_quiet_hours(request.quiet_hours)


def _check_authority(request: CreateSubscription, installed: Row | None, holder: Row | None) -> None:
    """Raises `PermissionDenied`: a `client` key alone does not show that a subscription is the caller's.

    Its secret does; and so does knowing the very token of a device, which only that device has been told. An address
    or a phone number is known to many.
    """
    if not request.client:
        return
    mine = {request.bearer.lower()} if request.bearer else set()
    if holder is not None and request.type in PUSH:
        mine.add(holder.id)
    for row in (installed, holder):
        if row is not None and row.id not in mine:
            raise errors.PermissionDenied(reason="subscription_secret")
