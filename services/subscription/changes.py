"""Changes to subscriptions: many requests in one transaction, each with an answer of its own.

Rows are read under lock, decided on in memory, and written together. Requests about the same row follow each other.
"""

import abc
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from libs import errors
from libs.coalesce import Coalescer
from libs.pg import Connection, Deadlocked, Pool
from services.subscription import queries
from services.subscription.edit import Token
from services.subscription.rows import Book, Draft, Row

BATCH = 500
TRANSACTIONS = 2
"""Under way at once: one is committed while the next is prepared."""
TRIES = 5
"""Times that a transaction is begun anew because somebody else was registering the same, or waited for it."""

T = TypeVar("T")
R = TypeVar("R")


class Raced(Exception):
    """Somebody else registered the same at this moment; the next try sees what they made."""


class Change(abc.ABC):
    """One request about one or more subscriptions of one application: done for all of them that exist, or for none."""

    application_id: str
    subscription_ids: Sequence[str]

    def claim(self, row: Row) -> Token | None:  # noqa: B027 - most changes claim none
        """The token that the row is to get. Raises a `SignalError` of the request."""

    @abc.abstractmethod
    def apply(self, row: Row, book: Book) -> Draft:
        """Raises a `SignalError`: then nothing of the request is done."""


async def settle(
    pool: Pool,
    batch: list[T],
    work: Callable[[Connection, list[T]], Awaitable[list[R | Exception]]],
    tries: int = TRIES,
) -> list[R | Exception]:
    """One transaction; a batch that Postgres refuses is halved until what is wrong stands alone (R15)."""
    try:
        async with pool.transaction() as c:
            return await work(c, batch)
    except errors.SignalError as error:
        if not (tries and isinstance(error, Deadlocked)):
            raise
        return await settle(pool, batch, work, tries - 1)
    except Exception as error:
        # A token that was registered while it was given to another row is refused by the index.
        if tries and (len(batch) == 1 or isinstance(error, Raced)):
            return await settle(pool, batch, work, tries - 1)
        if len(batch) == 1:
            busy = errors.ServiceUnavailable(service="subscription", retry_after=1)
            return [busy if isinstance(error, Raced) else error]
    middle = len(batch) // 2
    return [*await settle(pool, batch[:middle], work), *await settle(pool, batch[middle:], work)]


async def write(c: Connection, book: Book) -> None:
    """Raises `Raced` where what was to be made exists by now."""
    if book.keys:
        await queries.keep_keys(c, book.keys)
    changed, made = book.rows(book.changed), book.rows(book.made)
    archived = [row for row in changed if row.archived_at_ms is not None]
    if archived and len(archived) < len(changed):  # gives its token free before another takes it
        await queries.change_subscriptions(c, archived, [])
        changed = [row for row in changed if row.archived_at_ms is None]
    if changed:
        await queries.change_subscriptions(c, changed, [] if made else book.facts)
    if made and await queries.insert_subscriptions(c, made, book.facts) < len(made):
        raise Raced


class Changer:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._coalescer = Coalescer[Change, list[Row]](
            self.settle, max_items=BATCH, concurrency=TRANSACTIONS, weight=lambda change: len(change.subscription_ids)
        )

    async def submit(self, change: Change) -> list[Row]:
        """The rows as they are now; those that do not exist are absent. Raises what `Change` raises."""
        return await self._coalescer.submit(change)

    async def one(self, change: Change) -> Row:
        """Raises `ResourceNotFound`, and what `Change` raises."""
        rows = await self.submit(change)
        if not rows:
            raise errors.ResourceNotFound(id=change.subscription_ids[0])
        return rows[0]

    async def settle(self, batch: list[Change]) -> list[list[Row] | Exception]:
        return await settle(self._pool, batch, self._round)

    async def _round(self, c: Connection, batch: list[Change]) -> list[list[Row] | Exception]:
        asked = dict.fromkeys((change.application_id, each) for change in batch for each in change.subscription_ids)
        rows = await queries.lock_subscriptions(c, list(asked)) if asked else []
        if not rows:
            return [[] for _ in batch]
        book = Book(rows, rows[0].read_at_ms)
        claimed = [(change.application_id, token.hash) for change in batch for token in _claims(change, book)]
        if claimed:
            book.know(await queries.find_by_token(c, list(dict.fromkeys(claimed))))
        answers = [_answer(change, book) for change in batch]
        await write(c, book)
        return answers


def _claims(change: Change, book: Book) -> list[Token]:
    found = []
    for row in _rows(change, book):
        try:
            token = change.claim(row)
        except errors.SignalError:
            continue  # `apply` says so
        if token is not None:
            found.append(token)
    return found


def _answer(change: Change, book: Book) -> list[Row] | Exception:
    try:
        drafts = [change.apply(row, book) for row in _rows(change, book)]
    except errors.SignalError as error:
        return error
    for draft in drafts:
        book.put(draft)
    return [draft.row for draft in drafts]


def _rows(change: Change, book: Book) -> list[Row]:
    found = (book.find(change.application_id, each) for each in dict.fromkeys(change.subscription_ids))
    return [row for row in found if row is not None]
