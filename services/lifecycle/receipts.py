"""What an app did not confirm in time has failed, where its application asks for that (SEQ-003 §10).

Statuses change too often to be indexed. So the messages of each application that asks are walked once in the order of
their ids, when they are old enough; what cannot be decided then is remembered, and looked at again at its time.
"""

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock
from libs.message import RECEIPT_TIMEOUT, Status
from libs.pg import Connection, Pool, Row
from libs.policy import Policy
from libs.rpc import Applications, ApplicationView, ListApplications

from . import queries, queries_expiry

REPORTING: frozenset[str] = frozenset({"apns", "fcm"})
"""Channels whose apps report receipts."""
ASK_SECONDS = 60.0
"""How old the list of applications may be."""
_UNSENT: frozenset[Status] = frozenset({"pending", "errored"})
_PAGE = 500
_WALKS = 20
"""Pages of one round."""
_APPLICATIONS = 200
"""Of one question: their settings come along."""
_HOUR_MS = 3_600_000


class ReceiptTimeouts:
    def __init__(self, pool: Pool, bus: Bus, clock: Clock) -> None:
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._hours: dict[str, int] = {}
        self._ask_at = 0.0
        self._failed = telemetry.counter("events_appended_total", kind="failed")

    async def round(self) -> bool:
        """True when there may be more at once. Raises `ServiceUnavailable` while nobody knows who asks."""
        await self._ask()
        async with self._pool.connection() as c:
            walks = await queries_expiry.open_walks(c, self._hours, _WALKS)
        for application_id, number in walks:
            async with self._pool.transaction() as c:
                await self._walk(c, application_id, number)
        async with self._pool.transaction() as c:
            looked_at = await self._look_again(c)
        return bool(walks) or looked_at == _PAGE

    async def _ask(self) -> None:
        if self._clock.monotonic() < self._ask_at:
            return
        hours: dict[str, int] = {}
        after: str | None = None
        while True:
            request = ListApplications(after, _APPLICATIONS)
            found = (await self._bus.call("application", "list_applications", request, Applications)).applications
            hours |= {each.id: asked for each in found if (asked := hours_of(each)) is not None}
            if len(found) < _APPLICATIONS:
                break
            after = found[-1].id
        async with self._pool.transaction() as c:
            await queries_expiry.begin_walks(c, hours)
        self._hours = hours
        self._ask_at = self._clock.monotonic() + ASK_SECONDS

    async def _walk(self, c: Connection, application_id: str, number: int) -> None:
        hours = self._hours[application_id]
        rows = await queries_expiry.walk(c, application_id, number, hours, _PAGE)
        if rows:
            await queries_expiry.await_receipts(c, await self._judge(c, rows))
            await queries_expiry.set_walk(c, application_id, number, str(rows[-1]["id"]))

    async def _look_again(self, c: Connection) -> int:
        rows = await queries_expiry.awaited(c, _PAGE)
        if rows:
            later = await self._judge(c, rows)
            undecided = {message_id for message_id, _, _ in later}
            await queries_expiry.await_receipts(c, later)
            await queries_expiry.decided(c, [i for row in rows if (i := str(row["id"])) not in undecided])
        return len(rows)

    async def _judge(self, c: Connection, rows: list[Row]) -> list[tuple[str, str, int]]:
        """Fails what is overdue. Returns what is to be looked at later: (message id, application id, Unix ms)."""
        looks = {str(row["id"]): look_at(row, self._hours) for row in rows}
        overdue = {str(row["id"]): row for row in rows if looks[str(row["id"])] == row["now_ms"]}
        if overdue:
            looks |= await self._fail(c, list(overdue))
        return [(i, str(row["application_id"]), at) for row in rows if (at := looks[i := str(row["id"])]) is not None]

    async def _fail(self, c: Connection, ids: list[str]) -> dict[str, int | None]:
        """Locked, and looked at closely: a message may have been sent again since it was sent first."""
        messages = {str(row["id"]): row for row in await queries.lock_messages(c, ids)}
        sent: dict[str, dict[int, int]] = defaultdict(dict)
        for row in await queries_expiry.sendings(c, ids):
            sent[str(row["message_id"])][row["attempt"]] = row["at_ms"]
        looks: dict[str, int | None] = dict.fromkeys(ids)
        facts: list[tuple[object, ...]] = []
        for message_id, message in messages.items():
            if message["status"] != "successful":
                continue
            hours = self._hours[str(message["application_id"])]
            ends = max(sent[message_id].values()) + hours * _HOUR_MS
            if ends > message["now_ms"]:
                looks[message_id] = ends
            else:
                facts += _failed(message, sent[message_id], hours)
        if facts:
            await queries.append(c, facts)
            await queries.update_projection(c, list({str(fact[0]) for fact in facts}))
            self._failed.inc(len(facts))
        return looks


def hours_of(application: ApplicationView) -> int | None:
    """None: it does not ask for receipts, or in a way that cannot be read."""
    name = "receipt_timeout_hours"
    try:
        return msgspec.convert({name: application.settings.get(name)}, Policy).receipt_timeout_hours
    except msgspec.ValidationError:
        return None


def look_at(message: Row, asking: Mapping[str, int]) -> int | None:
    """When to look at it, Unix ms: now (it is overdue), later, or never again (None)."""
    hours = asking.get(str(message["application_id"]))
    if hours is None or message["channel"] not in REPORTING:
        return None
    now: int = message["now_ms"]
    if message["status"] in _UNSENT:
        return now + hours * _HOUR_MS
    if message["status"] != "successful":
        return None
    ends: int = message["sent_at_ms"] + hours * _HOUR_MS
    return max(now, ends)


def _failed(message: Row, sent: Mapping[int, int], hours: int) -> list[tuple[object, ...]]:
    """One fact for each sending, and for a later attempt that nothing came of: it would count as under way."""
    ids = str(message["id"]), str(message["application_id"])
    since = max(sent.values())
    return [
        (ids[0], "failed", attempt, RECEIPT_TIMEOUT, ids[1], message["now_ms"], RECEIPT_TIMEOUT, data)
        for attempt in sorted({*sent, message["attempt"]})
        for data in [{"hours": hours, "sent_at_ms": sent.get(attempt, since)}]
    ]
