"""Subscriptions imported in bulk: a file is sent as one streamed body, and sent again it goes on where it broke off."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from libs import rpc
from libs.api.imports import Import, ImportLine, RefusedLine, RefusedLines, RefusedLinesQuery
from libs.errors import SignalError, ValidationFailed
from libs.policy import SAME_TIMES, is_empty
from libs.tokens import normalised
from services.ingest.decode import Decoder, refuse, unstorable
from services.ingest.errors import Reason
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.records import Part, Records, parts
from services.ingest.render import rfc3339, rfc3339_or_none

NDJSON = "application/x-ndjson"
CSV = "text/csv"
IN_FLIGHT = 4
"""Parts of one import under way at once: one is read and checked while others are sealed and committed."""
PART_SECONDS = 30.0

_NESTED = ("tags", "device_info", "quiet_hours")
_LIST = "quiet_hours.categories"
_line = Decoder(ImportLine)


class _Checked(NamedTuple):
    rows: list[rpc.ImportRow]
    failures: list[rpc.ImportFailure]


async def put(gateway: Gateway, call: Call[None]) -> Answer:
    application_id, import_id, actor = call.caller.application_id, call.id(), call.caller.actor
    begin = rpc.BeginImport(application_id, import_id, actor)
    done = (await gateway.bus.call("subscription", "begin_import", begin, rpc.ImportBegun)).parts
    csv = call.headers.get("Content-Type", "").partition(";")[0].strip().lower() == CSV
    await _send_parts(gateway, call, done, csv)
    end = rpc.EndImport(application_id, import_id, actor)
    view = await gateway.bus.call("subscription", "end_import", end, rpc.ImportView)
    return Answer(200, _rendered(view), resource=f"import/{import_id}")


async def _send_parts(gateway: Gateway, call: Call[None], done: dict[int, bytes], csv: bool) -> None:
    """Ends when every part is committed. Raises the first refusal; what was committed before stays done."""
    assert call.stream is not None  # noqa: S101 - the route is of size `stream`
    read = _records(Records()) if csv else _objects
    under_way: set[asyncio.Task[None]] = set()
    try:
        async for part in parts(call.stream, quoted=csv):
            digest = part.digest()
            if done.get(part.first_line, digest) != digest:
                refuse({f"line {part.first_line}": Reason("other_file")})
            records = read(part)
            if part.first_line in done:
                if csv and part.first_line == 1:
                    next(records, None)  # the names of the columns
                continue
            checked = await asyncio.to_thread(_check, records)
            under_way.add(asyncio.create_task(_commit(gateway, call, part, digest, checked)))
            if len(under_way) >= IN_FLIGHT:
                under_way = await _some(under_way)
        while under_way:
            under_way = await _some(under_way)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)  # a part cut off is done whole, or not at all


async def _some(under_way: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    finished, others = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    for task in finished:
        task.result()
    return others


async def _commit(gateway: Gateway, call: Call[None], part: Part, digest: bytes, checked: _Checked) -> None:
    request = rpc.ImportPart(
        application_id=call.caller.application_id,
        import_id=call.id(),
        actor=call.caller.actor,
        first_line=part.first_line,
        lines=len(part.lines),
        digest=digest,
        rows=checked.rows,
        failures=checked.failures,
    )
    await gateway.bus.call("subscription", "import_part", request, rpc.Empty, timeout=PART_SECONDS)


_Parsed = Iterator[tuple[int, Callable[[], ImportLine]]]
"""Line numbers, and what makes the line's struct or raises its refusal."""


def _objects(part: Part) -> _Parsed:
    for number, line in enumerate(part.lines, part.first_line):
        if line.strip():
            yield number, lambda line=line: _line.decode(line)  # type: ignore[misc]


def _records(records: Records) -> Callable[[Part], _Parsed]:
    def read(part: Part) -> _Parsed:
        for number, fields in records.read(part):
            yield number, lambda fields=fields: _from_fields(fields)  # type: ignore[misc]

    return read


def _from_fields(fields: dict[str, str] | None) -> ImportLine:
    if fields is None:
        raise ValidationFailed(fields={"$": Reason("invalid")})
    nested: dict[str, Any] = {}
    for name, text in fields.items():
        group, dot, inner = name.partition(".")
        if dot and group in _NESTED and group not in fields:
            nested.setdefault(group, {})[inner] = text.split(",") if name == _LIST else text
        else:
            nested[name] = text
    refuse(unstorable(nested))
    try:
        return msgspec.convert(nested, ImportLine, strict=False)
    except msgspec.ValidationError:
        return _line.decode(msgspec.json.encode(nested))  # raises what is wrong, by field


def _check(records: _Parsed) -> _Checked:
    checked = _Checked([], [])
    for line, make in records:
        try:
            checked.rows.append(_row(line, make()))
        except SignalError as error:
            checked.failures.append(rpc.ImportFailure(line, error.code, _field(error)))
    return checked


def _row(line: int, given: ImportLine) -> rpc.ImportRow:
    """Raises `InvalidToken`, `ValidationFailed`."""
    if given.quiet_hours is not None and is_empty(given.quiet_hours):
        raise ValidationFailed(fields={"quiet_hours.end": SAME_TIMES})
    device = {} if given.device_info is None else msgspec.to_builtins(given.device_info)
    device = {name: value for name, value in device.items() if value is not None}
    if "country_code" in device:
        device["country_code"] = device["country_code"].upper()
    return rpc.ImportRow(
        line=line,
        type=given.type,
        token=normalised(given.type, given.token, given.token_kind),
        token_kind=given.token_kind,
        user_id=given.user_id,
        device_info=device,
        tags=given.tags,
        ad_consent=given.ad_consent,
        installation_id=given.installation_id,
        status=given.subscription_status,
        night_consent=given.night_consent,
        quiet_hours=given.quiet_hours,
    )


def _field(error: SignalError) -> str | None:
    fields = error.details.get("fields")
    return next(iter(fields), None) if isinstance(fields, dict) else None


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.GetImport(call.caller.application_id, call.id())
    return Answer(200, _rendered(await gateway.bus.call("subscription", "get_import", question, rpc.ImportView)))


async def errors(gateway: Gateway, call: Call[RefusedLinesQuery]) -> Answer:
    wanted = call.input
    question = rpc.ListImportErrors(call.caller.application_id, call.id(), wanted.after, wanted.per_page)
    found = await gateway.bus.call("subscription", "import_errors", question, rpc.ImportErrors)
    lines = [RefusedLine(each.line, each.code, each.field) for each in found.errors]
    more = lines[-1].line if len(lines) == wanted.per_page else None
    return Answer(200, RefusedLines(lines, found.total, more))


def _rendered(view: rpc.ImportView) -> Import:
    return Import(
        id=view.id,
        status=view.status,
        lines_done=view.lines_done,
        created=view.created,
        updated=view.updated,
        failed=view.failed,
        started_at=rfc3339(view.started_at_ms),
        updated_at=rfc3339(view.updated_at_ms),
        finished_at=rfc3339_or_none(view.finished_at_ms),
    )


ROUTES = (
    Route(
        method="PUT",
        path="/subscriptions/imports/{id}",
        summary="Import subscriptions from NDJSON or CSV; the same file sent again under the same id goes on",
        scopes=("manage",),
        handler=put,
        answer=Import,
        errors=("resource_not_found",),
        size="stream",
        media_types=(NDJSON, CSV),
        audit="subscription.import",
    ),
    Route(
        method="GET",
        path="/subscriptions/imports/{id}",
        summary="How far an import is",
        scopes=("read",),
        handler=get,
        answer=Import,
        errors=("resource_not_found",),
    ),
    Route(
        method="GET",
        path="/subscriptions/imports/{id}/errors",
        summary="The lines of an import that were refused",
        scopes=("read",),
        handler=errors,
        query=RefusedLinesQuery,
        answer=RefusedLines,
        errors=("resource_not_found",),
    ),
)
