"""Rendering for those who send: many messages a call, each with an answer of its own."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import msgspec

from libs import rpc
from libs.coalesce import Coalescer
from libs.errors import (
    MessageTooLarge,
    ServiceUnavailable,
    SignalError,
    TemplateInactive,
    TemplateNotFound,
    ValidationFailed,
)
from libs.pg import Pool
from services.templating import queries
from services.templating.content import Version
from services.templating.queries import Asked, Head, VersionKey
from services.templating.templates import asked_for

MAX_WANTED = 1000
MAX_REPLY = 6 * 1024 * 1024
"""Bytes: a reply is one NATS message, of 8 MiB at most."""
MAX_SECONDS = 2.5
"""For one call: its caller waits no longer than 5 s."""
TURN = 0.005
"""Seconds after which others have theirs."""
SLICE = 20
"""Messages whose versions are in hand at once."""
MAX_CACHED = 512 * 1024
"""As `Version.size` counts: tens of MiB."""
LOOKED_UP = 500
LOOKUPS = 2

Heads = Mapping[tuple[str, int | None], Head | None]
"""By what the caller calls a template and its version; None: there is none."""
_encode = msgspec.msgpack.Encoder().encode


class Cache:
    """Versions, which never change, parsed as far as they were wanted; the least recently used go."""

    def __init__(self) -> None:
        self._versions: OrderedDict[VersionKey, Version] = OrderedDict()
        self._size = 0

    def get(self, key: VersionKey) -> Version | None:
        found = self._versions.get(key)
        if found is not None:
            self._versions.move_to_end(key)
        return found

    def put(self, key: VersionKey, version: Version) -> None:
        gone = self._versions.pop(key, None)
        self._versions[key] = version
        self._size += version.size - (gone.size if gone is not None else 0)
        while self._size > MAX_CACHED and len(self._versions) > 1:
            self._size -= self._versions.popitem(last=False)[1].size


class Renderer:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cache = Cache()
        self._parsing = ThreadPoolExecutor(1, "senders")
        self._lookups = Coalescer[list[Asked], list[Head | None]](
            self._find_heads, max_items=LOOKED_UP, concurrency=LOOKUPS, weight=len
        )

    async def render(self, request: rpc.RenderMany) -> rpc.RenderedMany:
        """Raises `ValidationFailed` for more than `MAX_WANTED`; everything else is said item by item."""
        if len(request.wanted) > MAX_WANTED:
            raise ValidationFailed(fields={"wanted": ("maxItems", MAX_WANTED)})
        heads = await self._heads(request)
        call = _Call(request.preview)
        for start in range(0, len(request.wanted), SLICE):
            wanted = request.wanted[start : start + SLICE]
            await self._render_slice(call, request.application_id, wanted, heads)
        return rpc.RenderedMany(call.results)

    async def _render_slice(
        self, call: "_Call", application_id: str, slice_: Sequence[rpc.RenderWanted], heads: Heads
    ) -> None:
        named = [(wanted, heads[wanted.template_id, wanted.version]) for wanted in slice_]
        versions = await self._versions(application_id, {head for _, head in named if head is not None})
        for wanted, head in named:
            version = versions[head] if head is not None else None
            if version is not None:
                await self._parse(version, wanted)
            call.answer(wanted, head, version)
            await call.let_others()

    async def _parse(self, version: Version, wanted: rpc.RenderWanted) -> None:
        """In a thread, where it was not wanted before: a large one takes tens of milliseconds."""
        at = version.choose(wanted.locale, wanted.channel)
        if not version.is_parsed(at):
            with contextlib.suppress(SignalError):  # who renders it meets it again
                await asyncio.get_running_loop().run_in_executor(self._parsing, version.parsed, at)

    async def _heads(self, request: rpc.RenderMany) -> Heads:
        names = dict.fromkeys((wanted.template_id, wanted.version) for wanted in request.wanted)
        asked = {name: asked_for(request.application_id, *name) for name in names}
        known = [each for each in asked.values() if each is not None]
        found = dict(zip(known, await self._lookups.submit(known), strict=True)) if known else {}
        return {name: None if each is None else found[each] for name, each in asked.items()}

    async def _find_heads(self, batch: list[list[Asked]]) -> Sequence[list[Head | None] | Exception]:
        every = list(dict.fromkeys(asked for group in batch for asked in group))
        async with self._pool.connection() as c:
            found = await queries.find_heads(c, every)
        return [[found.get(asked) for asked in group] for group in batch]

    async def _versions(self, application_id: str, heads: Iterable[Head]) -> Mapping[Head, Version]:
        keys = {head: VersionKey(application_id, head.id, head.version) for head in heads}
        found = {head: version for head, key in keys.items() if (version := self._cache.get(key)) is not None}
        missing = {keys[head]: head for head in keys if head not in found}
        if missing:
            async with self._pool.connection() as c:
                rows = await queries.find_versions(c, list(missing))
            for key, row in rows.items():
                found[missing[key]] = version = _version(row)
                self._cache.put(key, version)
        return found


class _Call:
    """The answers to one request so far, and how far they may go on."""

    def __init__(self, preview: bool) -> None:
        self.results: list[rpc.Rendered] = []
        self._preview = preview
        self._bytes = 0
        self._turn = perf_counter()
        self._deadline = self._turn + MAX_SECONDS

    def answer(self, wanted: rpc.RenderWanted, head: Head | None, version: Version | None) -> None:
        try:
            result = self._rendered(wanted, head, version)
        except SignalError as error:
            result = rpc.Rendered(
                template_id=head.id if head is not None else "",
                version=head.version if head is not None else 0,
                fault_code=error.code,
                fault_details=error.details,
            )
        self.results.append(result)

    def _rendered(self, wanted: rpc.RenderWanted, head: Head | None, version: Version | None) -> rpc.Rendered:
        if head is None or version is None:
            raise TemplateNotFound(id=wanted.template_id[:200])
        if not (head.is_active or self._preview):
            raise TemplateInactive(id=head.id)
        if perf_counter() > self._deadline:
            raise ServiceUnavailable(service="templating", retry_after=1)
        at = version.choose(wanted.locale, wanted.channel)
        locale, channel = version.meant_for(at)
        text = version.parsed(at).render(wanted.variables)
        result = rpc.Rendered(head.id, head.version, locale, channel, text.title, text.body, text.data)
        self._bytes += len(_encode(result))
        if self._bytes > MAX_REPLY:
            raise MessageTooLarge(limit=MAX_REPLY)
        return result

    async def let_others(self) -> None:
        """Between two messages. Expensive templates pause as long as they ran: an answer to others takes several turns
        of the loop."""
        ran = perf_counter() - self._turn
        if ran > TURN:
            await asyncio.sleep(ran if ran > 2 * TURN else 0)
            self._turn = perf_counter()


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        msgspec.convert(row["content"], rpc.TemplateContent),
        msgspec.convert(row["variants"], list[rpc.Variant]),
        row["default_locale"],
    )
