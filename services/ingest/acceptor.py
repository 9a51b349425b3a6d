"""Acceptance by lifecycle: single messages that come together travel together, a batch goes by itself."""

from libs import rpc
from libs.bus import Bus
from libs.coalesce import Coalescer
from libs.envelope import LANES, Lane
from libs.errors import InternalError, from_code

ACCEPT_SECONDS = 10.0
"""Longer than lifecycle's fullest queue takes: giving up early leaves the caller in doubt."""


class Acceptor:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lanes = {
            lane: Coalescer[rpc.Accept, rpc.AcceptReply](self._accept_many, max_items=100, concurrency=4)
            for lane in LANES
        }

    async def single(self, request: rpc.Accept, lane: Lane) -> rpc.AcceptReply:
        """Answers after the commit. Raises what lifecycle says of this request, or `ServiceUnavailable`."""
        return await self._lanes[lane].submit(request)

    async def batch(self, request: rpc.Accept) -> rpc.AcceptReply:
        return await self._bus.call("lifecycle", "accept", request, rpc.AcceptReply, timeout=ACCEPT_SECONDS)

    async def _accept_many(self, requests: list[rpc.Accept]) -> list[rpc.AcceptReply | Exception]:
        many = rpc.AcceptMany(requests)
        answer = await self._bus.call("lifecycle", "accept_many", many, rpc.AcceptedMany, timeout=ACCEPT_SECONDS)
        return [_result(verdict) for verdict in answer.verdicts]


def _result(verdict: rpc.Verdict) -> rpc.AcceptReply | Exception:
    if verdict.reply is not None:
        return verdict.reply
    return InternalError() if verdict.fault is None else from_code(verdict.fault.code, verdict.fault.details)
