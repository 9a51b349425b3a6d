"""Users: identified on their devices, logged out again, looked up (SEQ-001). Many requests in one transaction."""

from collections.abc import Sequence
from functools import partial

import msgspec

from libs import errors
from libs.coalesce import Coalescer
from libs.ids import is_id
from libs.pg import Connection, Pool
from libs.rpc import (
    GetUser,
    IdentifyUser,
    LoggedOut,
    LogOut,
    SubscriptionsOfUser,
    SubscriptionView,
    UserSubscriptions,
    UserView,
)
from libs.seal import KeyRing
from services.subscription import persons, queries, queries_users
from services.subscription.changes import BATCH, TRANSACTIONS, Raced, settle, write
from services.subscription.edit import Edit, Who
from services.subscription.queries import User, UserName
from services.subscription.queries_users import Person
from services.subscription.rows import Book

MAX_SUBSCRIPTIONS = 1_000
"""In one request, and in one answer."""
MAX_EXTERNAL_ID = 255

_Request = IdentifyUser | LogOut


class Users:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring
        self._identifying = Coalescer[IdentifyUser, UserView](
            partial(settle, pool, work=self._identify), max_items=BATCH, concurrency=TRANSACTIONS, weight=_weight
        )
        self._leaving = Coalescer[LogOut, LoggedOut](
            partial(settle, pool, work=self._log_out), max_items=BATCH, concurrency=TRANSACTIONS, weight=_weight
        )

    async def identify(self, request: IdentifyUser) -> UserView:
        """Raises `ResourceNotFound` where one of the subscriptions is unknown, `ValidationFailed`."""
        _check(request)
        if not 1 <= len(request.external_id) <= MAX_EXTERNAL_ID or "\0" in request.external_id:
            raise errors.ValidationFailed(fields={"external_id": f"must have 1 to {MAX_EXTERNAL_ID} characters"})
        return await self._identifying.submit(request)

    async def logout(self, request: LogOut) -> LoggedOut:
        """Raises `ResourceNotFound` where one of the subscriptions is unknown, `ValidationFailed`."""
        _check(request)
        return await self._leaving.submit(request)

    async def get(self, request: GetUser) -> UserView:
        async with self._pool.connection() as c:
            return view(await persons.find(c, request.application_id, request.name))

    async def of_user(self, request: UserSubscriptions) -> SubscriptionsOfUser:
        async with self._pool.connection() as c:
            person = await persons.find(c, request.application_id, request.name)
            found = await queries_users.subscriptions_of(c, request.application_id, person.id, MAX_SUBSCRIPTIONS)
        return SubscriptionsOfUser(person.id, msgspec.convert(found, list[SubscriptionView]))

    async def _identify(self, c: Connection, batch: list[IdentifyUser]) -> list[UserView | Exception]:
        """Requests that name an unknown subscription make no user."""
        known = await queries_users.known_subscriptions(c, _pairs(batch))
        refused = {n: error for n, each in enumerate(batch) if (error := _unknown(each, known)) is not None}
        good = {n: each for n, each in enumerate(batch) if n not in refused}
        wanted = {_name(each): each.new_id for each in reversed(good.values())}
        found = await persons.find_or_make(c, self._ring, wanted)
        await self._link(c, {n: (each, found[_name(each)]) for n, each in good.items()})
        if found:
            await queries_users.touch_persons(c, found.values())
        return [refused[n] if n in refused else view(found[_name(each)]) for n, each in enumerate(batch)]

    async def _link(self, c: Connection, links: dict[int, tuple[IdentifyUser, Person]]) -> None:
        pairs = _pairs([request for request, _ in links.values()])
        book = await _lock(c, pairs)
        for request, person in links.values():
            user = User(person.id, person.external_id)
            for edit in self._edits(book, request):
                edit.user(user)
                edit.active()
                book.put(edit.draft())
        await write(c, book)

    async def _log_out(self, c: Connection, batch: list[LogOut]) -> list[LoggedOut | Exception]:
        known = await queries_users.known_subscriptions(c, _pairs(batch))
        answers: list[LoggedOut | Exception] = [
            _unknown(each, known) or LoggedOut(list(dict.fromkeys(each.subscription_ids))) for each in batch
        ]
        good = [each for each, answer in zip(batch, answers, strict=True) if isinstance(answer, LoggedOut)]
        book = await _lock(c, _pairs(good))
        for request in good:
            for edit in self._edits(book, request):
                edit.user(None)
                book.put(edit.draft())
        await write(c, book)
        return answers

    def _edits(self, book: Book, request: _Request) -> list[Edit]:
        """Raises `Raced` for a subscription that was archived since it was found."""
        who, edits = Who(request.actor, request.source), []
        for subscription_id in dict.fromkeys(request.subscription_ids):
            row = book.find(request.application_id, subscription_id)
            if row is None:
                raise Raced
            edits.append(Edit(row, who, book.now_ms, self._ring))
        return edits


def view(person: Person) -> UserView:
    return UserView(
        person.id, person.external_id, person.created_at_ms, person.created, last_active_at_ms=person.last_active_at_ms
    )


async def _lock(c: Connection, pairs: Sequence[tuple[str, str]]) -> Book:
    rows = await queries.lock_subscriptions(c, pairs) if pairs else []
    return Book(rows, rows[0].read_at_ms if rows else 0)


def _check(request: _Request) -> None:
    if len(request.subscription_ids) > MAX_SUBSCRIPTIONS:
        raise errors.ValidationFailed(fields={"subscriptions": f"at most {MAX_SUBSCRIPTIONS} at a time"})
    if not is_id(request.application_id):
        raise errors.ResourceNotFound(id=request.application_id[:64])
    for text in request.subscription_ids:
        if not is_id(text):
            raise errors.ResourceNotFound(id=text[:64])


def _weight(request: _Request) -> int:
    return max(1, len(request.subscription_ids))


def _pairs(batch: Sequence[_Request]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((each.application_id, one) for each in batch for one in each.subscription_ids))


def _name(request: IdentifyUser) -> UserName:
    return UserName(request.application_id, request.external_id)


def _unknown(request: _Request, known: set[tuple[str, str]]) -> errors.ResourceNotFound | None:
    missing = next((one for one in request.subscription_ids if (request.application_id, one) not in known), None)
    return None if missing is None else errors.ResourceNotFound(id=missing)
