"""NATS behind one door: request/reply between services and JetStream publishing. `libs.consume` reads the streams."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from libs import errors, telemetry
from libs.config import Nats
from libs.holds import Holds
from libs.nats_client import connect
from libs.rpc import Fault
from libs.subjects import STREAMS, Stream, rpc

if TYPE_CHECKING:
    from libs.service import Runtime

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)
Handler = Callable[[Any], Awaitable[msgspec.Struct]]

VERSION = "1.0.0"
FAULT_HEADER = "Signal-Fault"
MIN_PAYLOAD = 8 * 1024 * 1024
"""Bytes the server must let through (`max_payload`): a whole batch request travels as one."""
LEAVE_SECONDS = 10.0
"""For the answers that are still owed when a process stops."""
DUPLICATE_WINDOW = 600.0
"""Seconds in which a second publish with the same id is dropped by the server."""

_LOOK_SECONDS = 0.5

_encode = msgspec.msgpack.Encoder().encode
_decode_fault = msgspec.msgpack.Decoder(Fault).decode
_log = telemetry.logger("bus")


class PublishFailed(Exception):
    """No acknowledgement in time, or the stream refused: the message may or may not be stored."""


class ConnectionGone(Exception):
    """The server closed the connection for good (`-ERR`): only a new process gets another."""


class Bus:
    """One connection. It reconnects for ever; what was in flight then times out and is the caller's to repeat."""

    def __init__(self, client: Client, settings: Nats) -> None:
        self.client = client
        self.settings = settings
        self.js: JetStreamContext = client.jetstream(timeout=5)
        # In a cluster another server may lead, and forget, while ours stays.
        self.holds = Holds(client, settings.holds if settings.replicas == 1 else "")
        self._services: list[Service] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, settings: Nats, name: str) -> "Bus":
        """Waits for a server as long as it takes; a supervisor decides when that is too long."""
        return cls(await connect(settings.url, name), settings)

    @classmethod
    async def join(cls, runtime: "Runtime", settings: Nats, name: str) -> "Bus":
        """A connection that the service is ready with, ends with, and closes."""
        bus = await cls.connect(settings, name)
        runtime.on_stop(bus.close)
        runtime.readiness("nats", bus.is_ready)
        runtime.spawn(bus.until_gone(), "nats")
        await bus.holds.give_back()
        return bus

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and found: deliveries stored before the last one are suspect (R7).

        Counted before anything can arrive on the new connection; `reconnected_cb` is called a round trip after.
        """
        return self.client.stats["reconnects"]

    async def until_gone(self) -> None:
        """Never returns. Raises `ConnectionGone`, which shall end the process: it would refuse everything for ever."""
        while not self.client.is_closed:
            await asyncio.sleep(_LOOK_SECONDS)
        raise ConnectionGone(type(self.client.last_error).__name__)

    async def close(self) -> None:
        await self.leave()
        await self.client.close()
        self.holds.close()

    async def leave(self) -> None:
        """Take no more requests, and answer all that the server had given us: no caller waits in vain.

        Whoever asks from now on gets another replica, or is told at once that there is none. Bounded by
        `LEAVE_SECONDS`; to be called before what the handlers need is closed.
        """
        services, self._services = self._services, []
        if not services or not self.client.is_connected:
            return
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._take_the_last(services)
                while self._tasks:
                    await asyncio.wait(self._tasks)
                await self._round_trip()  # the answers have left us

    async def _take_the_last(self, services: list[Service]) -> None:
        """nats-py's `Service.stop` throws away what is on its way, and its `drain` too: see `_round_trip`."""
        subscriptions = [endpoint._subscription for service in services for endpoint in service._endpoints]  # noqa: SLF001
        for subscription in subscriptions:
            await self.client._send_unsubscribe(subscription._id)  # noqa: SLF001
        await self._round_trip()  # what the server gave us before it heard that has arrived
        for subscription in subscriptions:
            await subscription._pending_queue.join()  # noqa: SLF001
        for service in services:
            await service.stop()

    async def _round_trip(self) -> None:
        """The server has done what we told it before. (nats-py's `flush` sends its PING ahead of what is pending.)"""
        with contextlib.suppress(nats.errors.Error):
            await self.client.request(self.client.new_inbox(), timeout=1)  # nobody answers, and the server says so

    async def is_ready(self) -> bool:
        return self.client.is_connected and self.client.max_payload >= MIN_PAYLOAD

    # request / reply ------------------------------------------------------------------------------------------------

    async def call(self, service: str, verb: str, request: msgspec.Struct, reply: type[R], timeout: float = 5.0) -> R:
        """Ask another service. Raises its `SignalError`, or `ServiceUnavailable` when nobody answers in time."""
        if not self.client.is_connected:
            raise errors.ServiceUnavailable(service=service, retry_after=1)
        try:
            message = await self.client.request(rpc(service, verb), _encode(request), timeout=timeout)
        except (TimeoutError, nats.errors.Error, OSError):
            raise errors.ServiceUnavailable(service=service, retry_after=1) from None
        if message.headers and FAULT_HEADER in message.headers:
            fault = _decode_fault(message.data)
            raise errors.from_code(fault.code, fault.details)
        return msgspec.msgpack.decode(message.data, type=reply)

    async def serve(
        self,
        service: str,
        verbs: Mapping[str, tuple[type[msgspec.Struct], Handler]],
        *,
        max_pending: int = 2_000,
    ) -> None:
        """Answer `signal.rpc.<service>.<verb>`, shared with other replicas; at most `max_pending` of a verb at once.

        What is too much is refused when it is read: little ever waits in nats-py (at most 128 MiB a verb). A process
        that reads nothing is cut off by the server at its `max_pending`.
        """
        registered = await add_service(self.client, name=service, version=VERSION)
        self._services.append(registered)
        for verb, (kind, handler) in verbs.items():
            answer = self._answerer(f"{service}.{verb}", kind, handler, max_pending)
            await registered.add_endpoint(EndpointConfig(name=verb, subject=rpc(service, verb), handler=answer))
        await self._round_trip()  # who starts later may ask at once

    def _answerer(
        self, name: str, kind: type[msgspec.Struct], handler: Handler, max_pending: int
    ) -> Callable[[Request], Awaitable[None]]:
        decode = msgspec.msgpack.Decoder(kind).decode
        pending = 0

        async def run(request: Request) -> None:
            nonlocal pending
            try:
                await request.respond(_encode(await handler(decode(request.data))))
            except Exception as error:
                await _respond_fault(request, fault_of(name, error))
            finally:
                pending -= 1

        async def answer(request: Request) -> None:
            nonlocal pending
            if pending >= max_pending:
                await _respond_fault(request, Fault("service_unavailable", {"retry_after": 1}))
                return
            pending += 1  # here: many are read before one task begins
            task = asyncio.create_task(run(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return answer

    # streams --------------------------------------------------------------------------------------------------------

    async def ensure_streams(self) -> None:
        """Create what is missing and bring limits up to date; safe from every service at once."""
        for stream in STREAMS:
            config = self._config_of(stream)
            try:
                await self.js.add_stream(config)
            except nats.js.errors.BadRequestError:
                await self.js.update_stream(config)

    def _config_of(self, stream: Stream) -> StreamConfig:
        work_queue = stream.retention == "work_queue"
        return StreamConfig(
            name=stream.name,
            description=stream.purpose,
            subjects=list(stream.subjects),
            retention=RetentionPolicy.WORK_QUEUE if work_queue else RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=self.settings.replicas,
            max_age=stream.max_age or 0,
            max_bytes=self.settings.max_stream_bytes,
            discard=DiscardPolicy.NEW if work_queue else DiscardPolicy.OLD,
            duplicate_window=DUPLICATE_WINDOW,
            allow_direct=False,
        )

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        msg_id: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Store one message, again under the same id until acknowledged. Raises `PublishFailed` after `timeout`."""
        deadline = asyncio.get_running_loop().time() + timeout
        sent_headers = {"Nats-Msg-Id": msg_id, **(headers or {})}
        while True:
            left = deadline - asyncio.get_running_loop().time()
            try:
                if not self.client.is_connected:
                    raise nats.errors.ConnectionClosedError
                await self.js.publish(subject, payload, timeout=min(2.0, left), headers=sent_headers)
            except (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError) as error:
                await self._after_refusal(error)
                if asyncio.get_running_loop().time() >= deadline:
                    raise PublishFailed(type(error).__name__) from None
            else:
                return

    async def _after_refusal(self, error: Exception) -> None:
        if isinstance(error, nats.js.errors.NoStreamResponseError) and self.client.is_connected:
            try:
                async with asyncio.timeout(2):  # a cluster without a majority does not answer
                    await self.ensure_streams()
            except (TimeoutError, nats.errors.Error, nats.js.errors.Error):
                _log.debug("streams_not_ready")
        await asyncio.sleep(0.1)

    async def stream_state(self, stream: str, subjects: str | None = None) -> StreamInfo:
        """`subjects`, with wildcards: `state.subjects` says of each how many messages are stored.

        Raises `ServiceUnavailable` while JetStream cannot answer, `ResourceNotFound` if there is no such stream.
        """
        try:
            return await self.js.stream_info(stream, subjects)
        except nats.js.errors.NotFoundError:
            raise errors.ResourceNotFound(stream=stream) from None
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError):
            raise errors.ServiceUnavailable(service="nats", retry_after=1) from None


async def _respond_fault(request: Request, fault: Fault) -> None:
    try:
        await request.respond(_encode(fault), headers={FAULT_HEADER: fault.code})
    except nats.errors.Error:
        _log.debug("fault_not_delivered", code=fault.code)


def fault_of(name: str, error: Exception) -> Fault:
    """How a failed call is told to the caller; what is unknown says nothing of the inside, and is logged here."""
    if isinstance(error, errors.SignalError) and not isinstance(error, errors.InternalError):
        return Fault(error.code, error.details)
    if isinstance(error, msgspec.MsgspecError):
        return Fault("invalid_request", {"reason": "undecodable request"})
    _log.error("rpc_failed", verb=name, exc_info=error)
    return Fault("internal_server_error", {})


__all__ = ["Bus", "ConnectionGone", "Msg", "PublishFailed"]
