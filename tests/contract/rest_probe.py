"""Operations whose behaviour a test decides, to see what the endpoint does around a handler."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from libs.errors import SignalError
from libs.ids import new_id
from libs.rpc import Scope
from services.ingest.exchange import Answer, Call, Gateway, Route

MADE = "0199a1b2-0000-7000-8000-0000000000aa"


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str = ""


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str = "csv"


class Shown(msgspec.Struct, frozen=True):
    text: str
    new_id: str | None = None
    subscription_id: str | None = None


class Probe:
    """Its handlers count their calls, and answer what `answer` says."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []
        self.text = "hello"
        self.modified_ms: int | None = None
        self.resource: str | None = None
        self.error: SignalError | None = None
        self.go = asyncio.Event()
        """Cleared: handlers wait."""
        self.go.set()
        self.running = asyncio.Semaphore(0)
        """Released by each call of a handler."""
        self.received = b""
        self.pieces: list[bytes | Exception] = []
        """What the stream gives, or fails with."""
        self.given = 0
        self.closed = False

    async def show(self, _: Gateway, call: Call[Any]) -> Answer:
        self.calls.append(call)
        self.running.release()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        shown = Shown(self.text, call.new_id, call.caller.subscription_id)
        return Answer(200, shown, modified_ms=self.modified_ms, resource=self.resource)

    async def make(self, gateway: Gateway, call: Call[Body]) -> Answer:
        answer = await self.show(gateway, call)
        made = Shown(call.input.text or new_id(), call.new_id)
        return answer._replace(status=201, data=made, headers={"X-Made": "yes"}, subjects=(MADE,))

    async def take(self, gateway: Gateway, call: Call[Query]) -> Answer:
        assert call.stream is not None
        async for piece in call.stream:
            self.received += piece
            self.running.release()
            await self.go.wait()
        return await self.show(gateway, call)

    async def give(self, gateway: Gateway, call: Call[Query]) -> Answer:
        await self.show(gateway, call)
        return Answer(200, None, stream=self._stream(), content_type="text/csv; charset=utf-8")

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                await self.go.wait()
                if isinstance(piece, Exception):
                    raise piece
                self.given += 1
                yield piece
        finally:
            self.closed = True

    @property
    def routes(self) -> Sequence[Route]:
        who: tuple[Scope, ...] = ("read", "manage", "send", "client")
        files: dict[str, Any] = {"size": "stream", "query": Query, "media_types": ("text/csv", "application/x-ndjson")}
        return (
            Route(method="GET", path="/probes/{id}", summary="Show", scopes=who, handler=self.show, answer=Shown),
            self._change("POST", "/probes", self.make, body=Body, audit="probe.create"),
            self._change("POST", "/probes/{id}/mark", self.make, body=Body, audit="probe.mark", body_required=False),
            self._change("DELETE", "/probes/{id}", self.show, audit="probe.delete"),
            self._change("DELETE", "/users/{id}", self.show, audit="user.delete"),
            self._change("POST", "/probes/check", self.make, body=Body, repeat="pure"),
            self._change("PUT", "/probes/file", self.take, **files, audit="probe.import"),
            self._change("POST", "/probes/files", self.take, **files),
            self._change("GET", "/probes-file", self.give, **files, audit="probe.export"),
        )

    def _change(self, method: Any, path: str, handler: Any, **said: Any) -> Route:
        scopes: tuple[Scope, ...] = ("send", "manage", "client")
        return Route(method=method, path=path, summary="Do", scopes=scopes, handler=handler, answer=Shown, **said)
