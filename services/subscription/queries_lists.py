"""The SQL of lists: subscriptions by filter, and the history of one. Every statement carries the application."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from libs.pg import Connection
from services.subscription.queries_reading import VIEW
from services.subscription.status import SUBSCRIBED

LAST_ID = UUID(int=2**128 - 1)

# What a filter says; one that is not given says nothing.
WANTED = """($3::uuid IS NULL OR s.user_id = $3)
    AND ($4::text IS NULL OR s.type = $4)
    AND ($5::smallint IS NULL OR s.status = $5)
    AND ($6::text IS NULL OR s.tags ? $6)"""


class _Lead(NamedTuple):
    """What an index begins with: the condition on it, and the order in which the index has its rows."""

    condition: str
    order: str


def _looked_at(lead: _Lead) -> str:
    """The newest of one index, as many as a page may look at.

    `= ANY` and the order keep the planner on that index. With plain equality it walked the primary key backwards, past
    all that other applications have, where one of them has most of the rows.
    """
    return f"""SELECT * FROM subscription.subscriptions AS s
        WHERE {lead.condition} AND s.id < $2 AND s.archived_at IS NULL
        ORDER BY {lead.order}, s.id DESC LIMIT $7"""  # noqa: S608 - made of constants


def _page(lead: _Lead) -> str:
    return f"""
SELECT {VIEW} FROM (
    SELECT * FROM ({_looked_at(lead)}) AS s
    WHERE {WANTED}
    ORDER BY {lead.order}, s.id DESC OFFSET $8 LIMIT $9
) AS s
ORDER BY s.id DESC"""  # noqa: S608 - made of constants


def _count(lead: _Lead) -> str:
    return f"""
SELECT count(*), count(*) FILTER (WHERE {WANTED}), min(s.id::text)
FROM ({_looked_at(lead)}) AS s"""  # noqa: S608 - made of constants


def _all(condition: str) -> str:
    """Counted as far as a total is exact; beyond that the planner's guess is the estimate."""
    return f"""
SELECT FROM subscription.subscriptions AS s
WHERE {condition} AND s.archived_at IS NULL"""


_OWN = "s.application_id = ANY (ARRAY[$1::uuid])"
_OF_USER = _Lead(f"s.user_id = ANY (ARRAY[$3::uuid]) AND {_OWN}", "s.user_id DESC")
_OF_APPLICATION = _Lead(_OWN, "s.application_id DESC")
_OF_TYPE = _Lead(f"{_OWN} AND s.type = ANY (ARRAY[$4::text])", "s.application_id DESC, s.type DESC")
# The index leaves the many active ones out.
_OF_STATUS = _Lead(
    f"{_OWN} AND s.status = ANY (ARRAY[$5::smallint]) AND s.status <> 1", "s.application_id DESC, s.status DESC"
)
PAGE_BY_APPLICATION, COUNT_BY_APPLICATION = _page(_OF_APPLICATION), _count(_OF_APPLICATION)
PAGE_BY_USER, COUNT_BY_USER = _page(_OF_USER), _count(_OF_USER)
PAGE_BY_TYPE, COUNT_BY_TYPE = _page(_OF_TYPE), _count(_OF_TYPE)
PAGE_BY_STATUS, COUNT_BY_STATUS = _page(_OF_STATUS), _count(_OF_STATUS)
ALL_OF_APPLICATION = _all("s.application_id = $1")
ALL_OF_TYPE = _all("s.type = $2 AND s.application_id = $1")
ALL_OF_STATUS = _all("s.status = $2 AND s.application_id = $1")
ALL_OF_USER = _all("s.user_id = $2 AND s.application_id = $1")


def _length(rows: str, limit: str) -> str:
    return f"SELECT count(*) FROM ({rows} LIMIT {limit}) AS found"  # noqa: S608 - made of constants


LENGTH_OF_APPLICATION = _length(ALL_OF_APPLICATION, "$2")
LENGTH_OF_TYPE, LENGTH_OF_USER = _length(ALL_OF_TYPE, "$3"), _length(ALL_OF_USER, "$3")
LENGTH_OF_STATUS = _length(f"{ALL_OF_STATUS} AND s.status <> 1", "$3")

# The history of an archived one is still there; that of another application's never is.
HISTORY = """
SELECT e.position, e.kind, e.actor, e.source, e.reason, e.data,
    (date_part('epoch', e.occurred_at) * 1000)::bigint AS occurred_at_ms
FROM subscription.subscription_events AS e
WHERE e.subscription_id = ANY (ARRAY[$2::uuid]) AND e.application_id = $1 AND e.position < $3
ORDER BY e.subscription_id DESC, e.position DESC LIMIT $4 OFFSET $5
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
        return self.tag is None and sum(each is not None for each in (self.user_id, self.type, self.status)) <= (
            self.status != SUBSCRIBED
        )


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
    rows = await c.fetch(_index(wanted).page, *_values(wanted, before), look_at, offset, limit)
    return [dict(row) for row in rows]


async def length(c: Connection, wanted: Filter, limit: int) -> int:
    """Of a list that one index answers; at most `limit`."""
    index = _index(wanted)
    return int(await c.fetchval(index.length, *index.key, limit))


async def count(c: Connection, wanted: Filter, before: str | None, look_at: int) -> Looked:
    (row,) = await c.fetch(_index(wanted).counts, *_values(wanted, before), look_at)
    return Looked(*row)


async def estimate(c: Connection, wanted: Filter) -> int:
    """How many rows the index has that the list is read from, as the planner guesses from its statistics."""
    index = _index(wanted)
    plan = msgspec.json.decode(await c.fetchval(f"EXPLAIN (FORMAT JSON) {index.all}", *index.key))
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


class _Index(NamedTuple):
    page: str
    counts: str
    length: str
    all: str
    key: Sequence[Any]


def _index(wanted: Filter) -> _Index:
    """The one that leaves the least to be looked at."""
    owner, user_id, kind, status, _ = wanted
    if user_id is not None:
        return _Index(PAGE_BY_USER, COUNT_BY_USER, LENGTH_OF_USER, ALL_OF_USER, (owner, user_id))
    if status not in (None, SUBSCRIBED):
        return _Index(PAGE_BY_STATUS, COUNT_BY_STATUS, LENGTH_OF_STATUS, ALL_OF_STATUS, (owner, status))
    if kind is not None:
        return _Index(PAGE_BY_TYPE, COUNT_BY_TYPE, LENGTH_OF_TYPE, ALL_OF_TYPE, (owner, kind))
    return _Index(PAGE_BY_APPLICATION, COUNT_BY_APPLICATION, LENGTH_OF_APPLICATION, ALL_OF_APPLICATION, (owner,))


def _values(wanted: Filter, before: str | None) -> tuple[Any, ...]:
    return (wanted.application_id, before or LAST_ID, wanted.user_id, wanted.type, wanted.status, wanted.tag)
