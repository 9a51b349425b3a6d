"""SQL of the lifecycle service for what callers ask of messages: list, cancel, send again."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from libs.pg import Connection, Row
from libs.rpc import ListMessages

# lists ----------------------------------------------------------------------------------------------------------------

LOOKED_AT = 20_000
"""Messages that one page looks at: what is rare among millions comes in short pages."""
END_OF_TIME_MS = 2**48 - 1
_CLOCK_SLACK_MS = 600_000
_SPREAD_MS = 86_400_000
"""A message's id carries a time from before its acceptance: of another clock, or of the start of its fan-out."""

# What a filter says; one that is not given says nothing.
WANTED = """application_id = $1
    AND ($4::uuid IS NULL OR subscription_id = $4)
    AND ($5::uuid IS NULL OR user_id = $5)
    AND ($6::uuid IS NULL OR template_id = $6)
    AND ($7::text IS NULL OR status = $7)
    AND ($8::text IS NULL OR channel = $8)
    AND ($9::text IS NULL OR lane = $9)
    AND ($10::text IS NULL OR category = $10)
    AND ($11::bigint IS NULL OR (extract(EPOCH FROM created_at) * 1000)::bigint >= $11)
    AND ($12::bigint IS NULL OR (extract(EPOCH FROM created_at) * 1000)::bigint < $12)"""


def _looked_at(condition: str) -> str:
    """The newest of one index, as many as a page may look at."""
    return f"""SELECT * FROM lifecycle.messages
    WHERE {condition} AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT {LOOKED_AT}"""  # noqa: S608 - made of constants


def _page(condition: str) -> str:
    return f"""
SELECT found.*, due.due_at, due.reason AS due_reason
FROM (
    SELECT * FROM ({_looked_at(condition)}) AS looked_at
    WHERE {WANTED}
    ORDER BY id DESC OFFSET $13 LIMIT $14
) AS found
LEFT JOIN lifecycle.due ON due.message_id = found.id
ORDER BY found.id DESC"""  # noqa: S608 - made of constants


def _count(condition: str) -> str:
    return f"""
SELECT count(*) AS looked_at, count(*) FILTER (WHERE {WANTED}) AS wanted, min(id::text) AS last
FROM ({_looked_at(condition)}) AS looked_at"""  # noqa: S608 - made of constants


BY_APPLICATION, BY_SUBSCRIPTION = "application_id = $1", "subscription_id = $4"
BY_USER, BY_TEMPLATE = "user_id = $5", "template_id = $6"
PAGE_BY_APPLICATION, COUNT_BY_APPLICATION = _page(BY_APPLICATION), _count(BY_APPLICATION)
PAGE_BY_SUBSCRIPTION, COUNT_BY_SUBSCRIPTION = _page(BY_SUBSCRIPTION), _count(BY_SUBSCRIPTION)
PAGE_BY_USER, COUNT_BY_USER = _page(BY_USER), _count(BY_USER)
PAGE_BY_TEMPLATE, COUNT_BY_TEMPLATE = _page(BY_TEMPLATE), _count(BY_TEMPLATE)
# Never run, only planned: the planner's guess is the estimate of a long list.
ALL_WANTED = f"SELECT FROM lifecycle.messages WHERE {WANTED} AND id < $2 AND id >= $3"


class Looked(msgspec.Struct, frozen=True):
    at: int
    """How many messages were looked at."""
    wanted: int
    last: str | None
    """The oldest of them."""

    @property
    def all(self) -> bool:
        return self.at < LOOKED_AT


async def page(c: Connection, request: ListMessages) -> list[Row]:
    """One more than asked for, where there are more."""
    statement, _ = _statements(request)
    return await c.fetch(statement, *_values(request, request.before), request.offset, request.limit + 1)


async def count(c: Connection, request: ListMessages, before: str | None) -> Looked:
    """Of the messages before that one, or of the newest."""
    _, statement = _statements(request)
    (row,) = await c.fetch(statement, *_values(request, before))
    return Looked(row["looked_at"], row["wanted"], row["last"])


async def estimate(c: Connection, request: ListMessages) -> int:
    """How many match, as the planner guesses from its statistics."""
    (plan,) = msgspec.json.decode(await c.fetchval(f"EXPLAIN (FORMAT JSON) {ALL_WANTED}", *_values(request, None)))
    return int(plan["Plan"]["Plan Rows"])


def _statements(request: ListMessages) -> tuple[str, str]:
    """The index that leaves the least to be looked at."""
    if request.subscription_id is not None:
        return PAGE_BY_SUBSCRIPTION, COUNT_BY_SUBSCRIPTION
    if request.user_id is not None:
        return PAGE_BY_USER, COUNT_BY_USER
    if request.template_id is not None:
        return PAGE_BY_TEMPLATE, COUNT_BY_TEMPLATE
    return PAGE_BY_APPLICATION, COUNT_BY_APPLICATION


def _values(request: ListMessages, before: str | None) -> tuple[Any, ...]:
    newest = _first_id_at(END_OF_TIME_MS if request.to_ms is None else request.to_ms + _CLOCK_SLACK_MS)
    oldest = _first_id_at(0 if request.from_ms is None else request.from_ms - _SPREAD_MS)
    return (
        request.application_id,
        newest if before is None else min(before, newest),
        oldest,
        request.subscription_id,
        request.user_id,
        request.template_id,
        request.status,
        request.channel,
        request.lane,
        request.category,
        request.from_ms,
        request.to_ms,
    )


def _first_id_at(unix_ms: int) -> str:
    return str(UUID(int=max(0, unix_ms) << 80))


# cancel, send again ---------------------------------------------------------------------------------------------------

TAKE_WAITING = "DELETE FROM lifecycle.due WHERE message_id = ANY ($1::uuid[]) RETURNING message_id"
SELECT_RESENT = """
SELECT message_id, attempt FROM lifecycle.message_events
WHERE message_id = ANY ($2::uuid[]) AND application_id = $1 AND kind = 'retried' AND key = $3
"""


async def take_waiting(c: Connection, ids: Sequence[str]) -> set[str]:
    """Which of them waited in `due`, and wait no more."""
    return {str(row["message_id"]) for row in await c.fetch(TAKE_WAITING, ids)}


async def resent(c: Connection, application_id: str, ids: Sequence[str], key: str) -> dict[str, int]:
    """The attempts that were begun under this key, by message id."""
    rows = await c.fetch(SELECT_RESENT, application_id, ids, key)
    return {str(row["message_id"]): row["attempt"] for row in rows}
