"""Several connections to one provider for one tenant: spreads requests, warms up, replaces what went bad."""

import asyncio
from collections.abc import Callable, Mapping

from services.senders.transport import NotSent, Response, Transport, UnknownOutcome

TIMEOUTS_TO_REPLACE = 3
"""A connection with so many timeouts and no answer between them is given up for a new one."""

Proof = Callable[[Response], bool]


def any_answer(_: Response) -> bool:
    return True


class Connections:
    """Takes turns between `size` transports, each made when first needed.

    A new connection carries one request alone until an answer `proves` it good: APNs allows one stream until the
    provider token was accepted. `timeout` (seconds) bounds the wait for that.
    """

    def __init__(self, make: Callable[[], Transport], size: int, timeout: float, proves: Proof = any_answer) -> None:
        self._slots = [_Slot(make, timeout, proves) for _ in range(size)]
        self._turn = 0

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Raises `NotSent` after one immediate second try, `UnknownOutcome`, ValueError."""
        self._turn = (self._turn + 1) % len(self._slots)
        slot = self._slots[self._turn]
        return await (slot.send(url, headers, body) if slot.warm else slot.send_first(url, headers, body))

    def retire(self, response: Response) -> None:
        """Let the connection that brought `response` end with what is in flight on it; the next one is new."""
        for slot in self._slots:
            if slot.transport is response.origin:
                slot.replace()

    async def close(self) -> None:
        opened = [slot.transport for slot in self._slots if slot.transport is not None]
        await asyncio.gather(*(transport.close() for transport in opened))


class _Slot:
    def __init__(self, make: Callable[[], Transport], timeout: float, proves: Proof) -> None:
        self._make = make
        self._timeout = timeout
        self._proves = proves
        self._first = asyncio.Lock()
        self._timeouts = 0
        self.transport: Transport | None = None
        self.warm = False

    async def send_first(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        try:
            async with asyncio.timeout(self._timeout):
                await self._first.acquire()
        except TimeoutError:
            raise NotSent("no_connection") from None
        try:
            if not self.warm:
                response = await self.send(url, headers, body)
                self.warm = self._proves(response)
                return response
        finally:
            self._first.release()
        return await self.send(url, headers, body)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        transport = self.transport
        if transport is None:
            transport = self.transport = self._make()
        try:
            response = await _post_twice_if_unsent(transport, url, headers, body)
        except NotSent:
            self.warm = False
            raise
        except UnknownOutcome as error:
            self._lost(transport, error)
            raise
        self._timeouts = 0
        return response

    def _lost(self, transport: Transport, error: UnknownOutcome) -> None:
        if transport is not self.transport:
            return
        if not error.timed_out:
            self.warm = False
            return
        self._timeouts += 1
        if self._timeouts >= TIMEOUTS_TO_REPLACE:
            self.replace()

    def replace(self) -> None:
        """The old transport ends by itself when the last request on it is done."""
        self.transport = None
        self.warm = False
        self._timeouts = 0


async def _post_twice_if_unsent(transport: Transport, url: str, headers: Mapping[str, str], body: bytes) -> Response:
    try:
        return await transport.post(url, headers, body)
    except NotSent:
        return await transport.post(url, headers, body)
