"""The SQL of lists: subscriptions by filter, and the history of one. Every statement carries the application."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from libs.pg import Connection
from services.subscription.queries_reading import VIEW

MAX_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

# What a filter says; one that is not given says nothing.
WANTED = """($3::uuid IS NULL OR s.user_id = $3)
    AND ($4::text IS NULL OR s.type = $4)
    AND ($5::smallint IS NULL OR s.status = $5)
    AND ($6::text IS NULL OR s.tags ? $6)"""


def _looked_at(condition: str) -> str:
    """The newest of one index, as many as a page may look at."""
    return f"""SELECT * FROM subscription.subscriptions AS s
        WHERE {condition} AND s.id < $2 AND s.archived_at IS NULL
        ORDER BY s.id DESC LIMIT $7"""  # noqa: S608 - made of constants


def _page(condition: str) -> str:
    return f"""
SELECT {VIEW} FROM (
    SELECT * FROM ({_looked_at(condition)}) AS s
    WHERE {WANTED}
    ORDER BY s.id DESC OFFSET $8 LIMIT $9
) AS s
ORDER BY s.id DESC"""  # noqa: S608 - made of constants


def _count(condition: str) -> str:
    return f"""
SELECT count(*), count(*) FILTER (WHERE {WANTED}), min(s.id::text)
FROM ({_looked_at(condition)}) AS s"""  # noqa: S608 - made of constants


def _all(condition: str) -> str:
    """Never run, only planned: the planner's guess is the estimate of a long list."""
    return f"""
SELECT FROM subscription.subscriptions AS s
WHERE {condition} AND s.archived_at IS NULL"""


BY_APPLICATION = "s.application_id = $1"
BY_USER = "s.user_id = $3 AND s.application_id = $1"
BY_TYPE = "s.type = $4 AND s.application_id = $1"
# The index leaves the many active ones out.
BY_STATUS = "s.status = $5 AND s.status <> 1 AND s.application_id = $1"
PAGE_BY_APPLICATION, COUNT_BY_APPLICATION = _page(BY_APPLICATION), _count(BY_APPLICATION)
PAGE_BY_USER, COUNT_BY_USER = _page(BY_USER), _count(BY_USER)
PAGE_BY_TYPE, COUNT_BY_TYPE = _page(BY_TYPE), _count(BY_TYPE)
PAGE_BY_STATUS, COUNT_BY_STATUS = _page(BY_STATUS), _count(BY_STATUS)
ALL_OF_APPLICATION = _all(BY_APPLICATION)
ALL_OF_TYPE = _all(BY_TYPE.replace("$4", "$2"))
ALL_OF_STATUS = _all(BY_STATUS.replace("$5", "$2"))

# The history of an archived one is still there; that of another application's never is.
HISTORY = """
SELECT e.position, e.kind, e.actor, e.source, e.reason, e.data,
    (date_part('epoch', e.occurred_at) * 1000)::bigint AS occurred_at_ms
FROM subscription.subscription_events AS e
WHERE e.subscription_id = $2 AND e.application_id = $1 AND e.position < $3
ORDER BY e.position DESC LIMIT $4 OFFSET $5
"""
COUNT_HISTORY = """
SELECT count(*) FROM (
    SELECT FROM subscription.subscription_events AS e
    WHERE e.subscription_id = $2 AND e.application_id = $1 LIMIT $3
) AS found
"""
IS_KNOWN = "SELECT true FROM subscription.subscriptions AS s WHERE s.id = $2 AND s.application_id = $1"


class Filter(NamedTuple):
    application_id: str
    user_id: str | None
    """Our id."""
    type: str | None
    status: int | None
    tag: str | None

    @property
    def is_whole(self) -> bool:
        """True: one index answers it, nothing has to be looked at in vain."""
        others = (self.type, self.status) if self.user_id is not None else ()
        given = [each for each in (*others, self.tag) if each is not None]
        return not given and (self.user_id is not None or self.type is None or self.status is None)


class Looked(NamedTuple):
    at: int
    """Rows that were looked at."""
    wanted: int
    last: str | None
    """The oldest of them."""


async def page(
    c: Connection, wanted: Filter, before: str | None, look_at: int, offset: int, limit: int
) -> list[dict[str, Any]]:
    """The fields of `libs.rpc.SubscriptionView`, newest first, of the newest `look_at` rows before that id."""
    statement, _, _ = _statements(wanted)
    return [dict(row) for row in await c.fetch(statement, *_values(wanted, before), look_at, offset, limit)]


async def count(c: Connection, wanted: Filter, before: str | None, look_at: int) -> Looked:
    _, statement, _ = _statements(wanted)
    (row,) = await c.fetch(statement, *_values(wanted, before), look_at)
    return Looked(*row)


async def estimate(c: Connection, wanted: Filter) -> int:
    """How many rows the index has that the list is read from, as the planner guesses from its statistics."""
    *_, (statement, values) = _statements(wanted)
    plan = msgspec.json.decode(await c.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))
    return int(plan[0]["Plan"]["Plan Rows"])


async def history(
    c: Connection, application_id: str, subscription_id: str, before: int, limit: int, offset: int
) -> list[dict[str, Any]]:
    """The fields of `libs.rpc.SubscriptionEventView`, newest first."""
    return [dict(row) for row in await c.fetch(HISTORY, application_id, subscription_id, before, limit, offset)]


async def count_history(c: Connection, application_id: str, subscription_id: str, limit: int) -> int:
    """At most `limit`."""
    return int(await c.fetchval(COUNT_HISTORY, application_id, subscription_id, limit))


async def is_known(c: Connection, application_id: str, subscription_id: str) -> bool:
    """Archived or not."""
    return bool(await c.fetchval(IS_KNOWN, application_id, subscription_id))


def _statements(wanted: Filter) -> tuple[str, str, tuple[str, Sequence[Any]]]:
    """The index that leaves the least to be looked at: its page, its count, and what is planned for its size."""
    if wanted.user_id is not None:
        return PAGE_BY_USER, COUNT_BY_USER, (ALL_OF_APPLICATION, (wanted.application_id,))
    if wanted.status not in (None, 1):
        return PAGE_BY_STATUS, COUNT_BY_STATUS, (ALL_OF_STATUS, (wanted.application_id, wanted.status))
    if wanted.type is not None:
        return PAGE_BY_TYPE, COUNT_BY_TYPE, (ALL_OF_TYPE, (wanted.application_id, wanted.type))
    return PAGE_BY_APPLICATION, COUNT_BY_APPLICATION, (ALL_OF_APPLICATION, (wanted.application_id,))


def _values(wanted: Filter, before: str | None) -> tuple[Any, ...]:
    return (wanted.application_id, before or MAX_ID, wanted.user_id, wanted.type, wanted.status, wanted.tag)
