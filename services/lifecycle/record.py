"""Recording facts: append, fold, and schedule what is to be tried again, in one transaction a batch (R3, R4, R9)."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from libs import telemetry
from libs.coalesce import Coalescer
from libs.envelope import LANES, Lane, Outcome
from libs.errors import ServiceUnavailable
from libs.message import FINAL, Status
from libs.pg import Connection, Pool, Row
from libs.retry import next_delay, waits_for
from libs.waits import WAITS, Hold, due_reason, hold_of

from . import queries, queries_erasure, queries_schedule

Later = tuple[str, str, str, int, str]
"""A row for `due`: message id, application id, lane, delay in milliseconds, reason."""
UNTIL_RELEASED_MS = 10 * 365 * 86_400_000
"""A stop ends when somebody ends it: its messages are moved forward then."""
_log = telemetry.logger("record")


class Facts(msgspec.Struct, frozen=True):
    """Facts about messages of one application, recorded whole or not at all."""

    application_id: str
    items: list[Outcome]
    subscription_id: str | None = None
    """If given, messages of other subscriptions are as unknown as those of nobody."""
    attached: bytes | None = None
    """What an app attached to the conversion that is told, sealed."""


class Recorded(msgspec.Struct, frozen=True):
    """The projection after recording; absent for an id that the application's log does not know."""

    status: Status
    attempt: int
    received_at_ms: int | None = None
    converted_at_ms: int | None = None
    subscription_id: str | None = None


class Recorder:
    def __init__(
        self,
        pool: Pool,
        transactions: int,
        scale: float,
        spread: Callable[[], float] = lambda: random.uniform(-1, 1),  # noqa: S311 - jitter, not a secret
    ) -> None:
        self._scale = scale
        self._spread = spread
        self._unknown_ids = telemetry.counter("unknown_messages_total")
        self._unknown_outcomes = telemetry.counter("outcome_unknown_total")
        self._coalescers: dict[Lane, Coalescer[Facts, dict[str, Recorded]]] = {
            lane: Coalescer(
                partial(self._commit, pool.of(lane)),
                max_items=500,
                max_pending=50_000,
                concurrency=transactions,
                weight=lambda facts: len(facts.items),
            )
            for lane in LANES
        }

    async def record(self, lane: Lane, facts: Facts) -> dict[str, Recorded]:
        """Answers after the commit, by message id."""
        return await self._coalescers[lane].submit(facts)

    async def _commit(self, pool: Pool, batch: list[Facts]) -> Sequence[dict[str, Recorded] | Exception]:
        try:
            return await self._transact(pool, batch)
        except ServiceUnavailable as error:
            return [error] * len(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        middle = len(batch) // 2
        return [*await self._commit(pool, batch[:middle]), *await self._commit(pool, batch[middle:])]

    async def _transact(self, pool: Pool, batch: list[Facts]) -> list[dict[str, Recorded] | Exception]:
        with telemetry.histogram("transaction_seconds", transaction="record").time():
            async with pool.transaction() as c:
                recorded = await self._write(c, batch)
        self._count(batch)
        return [_answer(facts, recorded) for facts in batch]

    async def _write(self, c: Connection, batch: list[Facts]) -> dict[tuple[str, str], Recorded]:
        facts = [(each, item) for each in batch for item in each.items]
        sent = _first_sendings(facts)
        done = await queries.record_first_sent(c, [_sent_row(*sent[i]) for i in sorted(sent)]) if sent else set()
        recorded = await self._fold_in(c, [(each, item) for each, item in facts if item.message_id not in done])
        if done:
            await queries.delete_due(c, list(done))
        return recorded | {(i, sent[i][0]): Recorded("successful", 1) for i in done}

    async def _fold_in(self, c: Connection, facts: list[tuple[Facts, Outcome]]) -> dict[tuple[str, str], Recorded]:
        """The general case: lock, append, fold all facts of each message, schedule what follows."""
        if not facts:
            return {}
        known = {str(row["id"]): row for row in await queries.lock_messages(c, list({i.message_id for _, i in facts}))}
        rows: list[tuple[object, ...]] = []
        sealed: list[tuple[object, ...]] = []
        later: dict[str, Later] = {}
        failures = await _earlier_failures(c, facts, known)
        waiting = await _waiting(c, facts, known)
        for told, item in facts:
            message = known.get(item.message_id)
            if message is None or not _is_of(told, message):
                self._unknown_ids.inc()
                continue
            decides = item.retry_class is None or item.message_id not in waiting
            for fact in self._follow_up(item, message, failures, later) if decides else [item]:
                row = _event_row(fact, message)
                if told.attached is not None and fact.kind == "converted":
                    sealed.append((*row, told.attached))
                else:
                    rows.append(row)
        if rows:
            await queries.append(c, rows)
        if sealed:
            await queries_erasure.append_sealed(c, sealed)
        touched = list({str(row[0]) for row in [*rows, *sealed]})
        if not touched:
            return {}
        folded = {str(row["id"]): row for row in await queries.update_projection(c, touched)}
        await _settle(c, folded, later)
        return {(i, str(r["application_id"])): _recorded(r) for i, r in folded.items()}

    def _follow_up(
        self, item: Outcome, message: Row, failures: dict[tuple[str, str], int], later: dict[str, Later]
    ) -> list[Outcome]:
        """What an attempt that may be repeated leads to: a due row, or the end. Returns the fact with the decision."""
        if item.attempt != message["attempt"] or message["status"] in FINAL:
            return [item]
        waiting = (item.message_id, str(message["application_id"]), message["lane"])
        if item.kind == "held" and (hold := hold_of(item.reason)) is not None:
            later[item.message_id] = (*waiting, _held_ms(item, hold, message), due_reason(hold, message["channel"]))
        if item.retry_class is None:
            return [item]
        tried = 1 + failures.get((item.message_id, waits_for(item.retry_class)), 0)
        delay = next_delay(
            item.retry_class,
            tried,
            message["lane"],
            retry_after=item.retry_after,
            spread=self._spread(),
            scale=self._scale,
        )
        if delay is None:
            data: dict[str, object] = {"retry_class": item.retry_class, "attempts": tried}
            return [item, msgspec.structs.replace(item, kind="failed", key="exhausted", data=data)]
        if message["now_ms"] + delay * 1000 > message["deadline_ms"]:
            data = {"last_reason": item.reason, "deadline_ms": message["deadline_ms"], **_asked(item)}
            return [item, msgspec.structs.replace(item, kind="expired", key="ttl", reason="expired", data=data)]
        telemetry.counter("retries_total", **{"class": item.retry_class}).inc()
        later[item.message_id] = (*waiting, int(delay * 1000), waits_for(item.retry_class))
        retry_at_ms = message["now_ms"] + int(delay * 1000)
        return [msgspec.structs.replace(item, data=item.data | {"retry_at_ms": retry_at_ms})]

    def _count(self, batch: list[Facts]) -> None:
        items = [item for facts in batch for item in facts.items]
        for kind, count in Counter(item.kind for item in items).items():
            telemetry.counter("events_appended_total", kind=kind).inc(count)
        self._unknown_outcomes.inc(
            sum(item.kind == "errored" and item.data.get("outcome") == "unknown" for item in items)
        )


async def _earlier_failures(
    c: Connection, facts: list[tuple[Facts, Outcome]], known: dict[str, Row]
) -> dict[tuple[str, str], int]:
    """Attempts that failed before these, by message and what was waited for after them; asked for few messages."""
    failed = {item.message_id for _, item in facts if item.retry_class is not None and item.message_id in known}
    again = [i for i in failed if known[i]["attempt"] - known[i]["uncounted"] > 1]
    return await queries.earlier_failures(c, again) if again else {}


async def _waiting(c: Connection, facts: list[tuple[Facts, Outcome]], known: dict[str, Row]) -> set[str]:
    """Of messages that failed: those that wait for their next attempt already. A failure told again decides nothing."""
    failed = {item.message_id for _, item in facts if item.retry_class is not None and item.message_id in known}
    return await queries_schedule.in_due(c, list(failed)) if failed else set()


async def _settle(c: Connection, folded: dict[str, Row], later: dict[str, Later]) -> None:
    waiting = [row for i, row in later.items() if folded[i]["status"] not in FINAL]
    if waiting:
        await queries.insert_due(c, waiting)
    final = [i for i, row in folded.items() if row["status"] in FINAL and row["attempt"] > 0]
    if final:
        await queries.delete_due(c, final)


def _held_ms(item: Outcome, hold: Hold, message: Row) -> int:
    """How long: until its time, or until it is released; where the ttl goes on, not beyond its end."""
    end = None if item.hold_until_ms is None else max(0, item.hold_until_ms - message["now_ms"])
    delay = UNTIL_RELEASED_MS if end is None else min(end, UNTIL_RELEASED_MS)
    return min(delay, max(0, message["deadline_ms"] - message["now_ms"])) if WAITS[hold].ages else delay


def _asked(item: Outcome) -> dict[str, object]:
    """What the provider asked for, as its sender noted it."""
    return {name: item.data[name] for name in ("retry_after", "retry_after_from") if name in item.data}


def _is_of(facts: Facts, message: Row) -> bool:
    return str(message["application_id"]) == facts.application_id and (
        facts.subscription_id is None or str(message["subscription_id"]) == facts.subscription_id
    )


def _answer(facts: Facts, recorded: dict[tuple[str, str], Recorded]) -> dict[str, Recorded]:
    """What one caller is told: of its own messages alone, whatever else the batch said of them."""
    found = {item.message_id: recorded.get((item.message_id, facts.application_id)) for item in facts.items}
    return {
        message_id: one
        for message_id, one in found.items()
        if one is not None and facts.subscription_id in (None, one.subscription_id)
    }


def _first_sendings(facts: list[tuple[Facts, Outcome]]) -> dict[str, tuple[str, Outcome]]:
    """Messages about which this batch says one thing: the first attempt was sent."""
    count = Counter(item.message_id for _, item in facts)
    return {
        item.message_id: (told.application_id, item)
        for told, item in facts
        if item.kind == "sent" and item.attempt == 1 and count[item.message_id] == 1
    }


def _sent_row(application_id: str, item: Outcome) -> tuple[object, ...]:
    return (item.message_id, application_id, item.key, item.occurred_at_ms, item.data)


def _event_row(item: Outcome, message: Row) -> tuple[object, ...]:
    """Times of another clock are kept within what is possible: after acceptance, not after now."""
    occurred_at = max(message["created_at_ms"], min(message["now_ms"], item.occurred_at_ms))
    application_id = str(message["application_id"])
    return (item.message_id, item.kind, item.attempt, item.key, application_id, occurred_at, item.reason, item.data)


def _recorded(row: Row) -> Recorded:
    times = row["received_at_ms"], row["converted_at_ms"]
    return Recorded(row["status"], row["attempt"], *times, str(row["subscription_id"]))
