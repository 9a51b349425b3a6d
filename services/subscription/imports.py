"""Bulk imports, part by part: each commits with its progress, so that a file sent again goes on where it broke off.

A part is one transaction of up to 2,000 lines; several of one import may be under way at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from libs import rpc, tokens
from libs.errors import DuplicateSubscription, ResourceNotFound, ValidationFailed
from libs.ids import is_id, new_id
from libs.pg import Connection, Pool
from libs.seal import KeyRing
from services.subscription import persons
from services.subscription import queries_imports as queries
from services.subscription.changes import settle, write
from services.subscription.edit import Edit, Who, own_key, sealed
from services.subscription.queries import UserName, lock_registered, now_ms
from services.subscription.queries_imports import NewRow
from services.subscription.queries_users import Person
from services.subscription.rows import Book, Draft
from services.subscription.status import DISABLED_BY_API, UNSUBSCRIBED, Event

MAX_ROWS = 5_000
"""Lines of one part."""
PARTS = 2
"""Parts under way at once: one is sealed while another is committed."""
EXPORT_PAGE = 2_000
YIELD_ROWS = 200
"""Rows that are sealed in one go: others wait for a few milliseconds at most."""
CONSENTING = frozenset({"iOSPush", "AndroidPush", "WebPush"})
"""Types whose subscribers agreed to ads, unless told otherwise (DECISIONS, "Consent")."""
REFUSALS: Mapping[int, Event] = {UNSUBSCRIBED: "disable", DISABLED_BY_API: "disable_by_api"}
"""What an import may tell of somebody who is here already: it is nobody's consent."""
OTHER_FILE = "differs from what was imported under this id"

_Persons = Mapping[UserName, Person]


class _Ready(NamedTuple):
    """A line, its token hashed."""

    row: rpc.ImportRow
    token_hash: bytes


class Imports:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring
        self._turns = asyncio.Semaphore(PARTS)

    async def begin(self, request: rpc.BeginImport) -> rpc.ImportBegun:
        _expect_ids(request.application_id, request.import_id)
        async with self._pool.transaction() as c:
            parts = await queries.begin_import(c, request.application_id, request.import_id, request.actor)
        return rpc.ImportBegun(parts)

    async def part(self, request: rpc.ImportPart) -> rpc.Empty:
        """Raises `ValidationFailed` for a part that is too large, `ResourceNotFound` for an import nobody began."""
        _expect_ids(request.application_id, request.import_id)
        if len(request.rows) + len(request.failures) > MAX_ROWS:
            raise ValidationFailed(fields={"rows": f"at most {MAX_ROWS} at a time"})
        async with self._turns:
            ready = await self._ready(request)
            fresh = await self._fresh(request, ready)

            async def work(c: Connection, _: list[None]) -> list[Exception | None]:
                await self._write(c, request, ready, fresh)
                return [None]

            (answer,) = await settle(self._pool, [None], work)
        if answer is not None:
            raise answer
        return rpc.Empty()

    async def _ready(self, request: rpc.ImportPart) -> list[_Ready]:
        """A token that stands in several lines counts as its last one says."""
        last: dict[bytes, _Ready] = {}
        for row in request.rows:
            token_hash = self._ring.blind_index(request.application_id, f"{row.type}\0{row.token}")
            last.pop(token_hash, None)
            last[token_hash] = _Ready(row, token_hash)
        return list(last.values())

    async def _fresh(self, request: rpc.ImportPart, ready: Sequence[_Ready]) -> list[NewRow]:
        rows: list[NewRow] = []
        for start in range(0, len(ready), YIELD_ROWS):
            rows += [self._new_row(request.application_id, each) for each in ready[start : start + YIELD_ROWS]]
            await asyncio.sleep(0)
        return rows

    def _new_row(self, application_id: str, ready: _Ready) -> NewRow:
        row, subscription_id = ready.row, new_id()
        key, wrapped = own_key(self._ring, subscription_id)
        return NewRow(
            id=subscription_id,
            type=row.type,
            status=row.status,
            user_id=None,
            wrapped_key=wrapped,
            token_hash=ready.token_hash,
            token_hint=tokens.hint(row.type, row.token),
            token_kind=row.token_kind,
            sealed_token=sealed(key, application_id, subscription_id, row.token),
            device_info=row.device_info,
            tags=row.tags,
            ad_consent=row.type in CONSENTING if row.ad_consent is None else row.ad_consent,
            installation_id=row.installation_id,
            night_consent=bool(row.night_consent),
            quiet_hours=row.quiet_hours,
        )

    async def _write(
        self, c: Connection, request: rpc.ImportPart, ready: Sequence[_Ready], fresh: Sequence[NewRow]
    ) -> None:
        application_id, import_id = request.application_id, request.import_id
        claimed = await queries.claim_part(
            c, application_id, import_id, request.first_line, request.lines, request.digest
        )
        if not claimed:
            await self._expect_the_same(c, request)
            return
        names = [UserName(application_id, one.row.user_id) for one in ready if one.row.user_id is not None]
        users = await persons.find_or_make(c, self._ring, dict.fromkeys(names))
        owned = [_owned(new, one.row, application_id, users) for new, one in zip(fresh, ready, strict=True)]
        made = await queries.insert_imported(c, application_id, owned, request.actor, import_id) if owned else set()
        known = [one for new, one in zip(owned, ready, strict=True) if new.id not in made]
        failures = await self._update(c, request, known) if known else []
        await self._count(c, request, len(made), len(known) - len(failures), [*request.failures, *failures])

    async def _expect_the_same(self, c: Connection, request: rpc.ImportPart) -> None:
        """Two bodies may come at the same time. Raises `ResourceNotFound`, or `ValidationFailed` where they differ."""
        digest = await queries.part_digest(c, request.application_id, request.import_id, request.first_line)
        if digest is None:
            raise ResourceNotFound(id=request.import_id)
        if digest != request.digest:
            raise ValidationFailed(fields={f"line {request.first_line}": OTHER_FILE})

    async def _update(self, c: Connection, request: rpc.ImportPart, known: Sequence[_Ready]) -> list[rpc.ImportFailure]:
        """Those that are there already, as any other change is made. What was refused: a line whose installation is
        there with another token, since only its app can say which one is right, and one with too many tags."""
        tokens_given = [(request.application_id, one.token_hash) for one in known]
        book = Book(await lock_registered(c, tokens_given, []), await now_ms(c))
        failures: list[rpc.ImportFailure] = []
        for at, one in enumerate(known):
            try:
                book.put(self._changed(book, request, one))
            except DuplicateSubscription:
                failures.append(rpc.ImportFailure(one.row.line, "duplicate_subscription", "installation_id"))
            except ValidationFailed as error:
                failures.append(rpc.ImportFailure(one.row.line, error.code, next(iter(error.details["fields"]))))
            if at % YIELD_ROWS == 0:
                await asyncio.sleep(0)
        await write(c, book)
        return failures

    def _changed(self, book: Book, request: rpc.ImportPart, one: _Ready) -> Draft:
        """Raises `DuplicateSubscription` where nobody has the token, `ValidationFailed`."""
        row = book.by_token(request.application_id, one.token_hash)
        if row is None:
            raise DuplicateSubscription
        edit = Edit(row, Who(request.actor, "import"), book.now_ms, self._ring)
        edit.device(msgspec.convert(one.row.device_info, rpc.DeviceInfo))
        edit.consent(ad=one.row.ad_consent, night=one.row.night_consent)
        edit.quiet_hours(one.row.quiet_hours or UNSET)
        edit.tags(one.row.tags, [])
        event = REFUSALS.get(one.row.status)
        if event is not None:
            edit.status(event)
        draft = edit.draft()
        told = [fact._replace(data={**fact.data, "import_id": request.import_id}) for fact in draft.facts]
        return draft._replace(facts=told)

    async def _count(
        self, c: Connection, request: rpc.ImportPart, created: int, updated: int, failures: list[rpc.ImportFailure]
    ) -> None:
        failed = await queries.count_part(
            c, request.application_id, request.import_id, request.lines, created, updated, len(failures)
        )
        kept = failures[: max(0, rpc.MAX_ERRORS - (failed - len(failures)))]
        if kept:
            rows = [(each.line, each.code, each.field) for each in kept]
            await queries.insert_import_errors(c, request.application_id, request.import_id, rows)

    async def end(self, request: rpc.EndImport) -> rpc.ImportView:
        async with self._pool.transaction() as c:
            await queries.end_import(c, request.application_id, request.import_id)
        return await self.get(rpc.GetImport(request.application_id, request.import_id))

    async def get(self, request: rpc.GetImport) -> rpc.ImportView:
        _expect_ids(request.application_id, request.import_id)
        async with self._pool.connection() as c:
            row = await queries.get_import(c, request.application_id, request.import_id)
        if row is None:
            raise ResourceNotFound(id=request.import_id)
        return msgspec.convert(dict(row), rpc.ImportView)

    async def errors(self, request: rpc.ListImportErrors) -> rpc.ImportErrors:
        view = await self.get(rpc.GetImport(request.application_id, request.import_id))
        limit = min(request.limit, rpc.MAX_ERRORS)
        async with self._pool.connection() as c:
            rows = await queries.list_import_errors(c, request.application_id, request.import_id, request.after, limit)
        return rpc.ImportErrors([rpc.ImportFailure(*row) for row in rows], view.failed)

    async def export(self, request: rpc.ExportSubscriptions) -> rpc.SubscriptionsExport:
        limit = min(request.limit, EXPORT_PAGE)
        after = request.after or "00000000-0000-0000-0000-000000000000"
        if not is_id(request.application_id) or not is_id(after):
            return rpc.SubscriptionsExport([])
        async with self._pool.connection() as c:
            rows = await queries.export_page(c, request.application_id, after, limit)
        views = [msgspec.convert(dict(row), rpc.SubscriptionView) for row in rows]
        wanted = [
            view
            for view in views
            if request.type in (None, view.type) and request.status in (None, view.subscription_status)
        ]
        return rpc.SubscriptionsExport(wanted, views[-1].id if len(views) == limit else None)


def _owned(new: NewRow, row: rpc.ImportRow, application_id: str, users: _Persons) -> NewRow:
    if row.user_id is None:
        return new
    return new._replace(user_id=users[UserName(application_id, row.user_id)].id)


def _expect_ids(*texts: str) -> None:
    """Nothing has an id that is none. Raises `ResourceNotFound`."""
    for text in texts:
        if not is_id(text):
            raise ResourceNotFound(id=text[:64])
