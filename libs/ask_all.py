"""A question that every process which listens answers for itself: NATS' request, with many replies."""

import asyncio
import contextlib

import nats.errors

from libs.bus import Bus
from libs.errors import ServiceUnavailable


async def answers(bus: Bus, subject: str, question: bytes, seconds: float, most: int = 500) -> list[bytes]:
    """What came within `seconds`, at most so many; at once where nobody listens.

    Raises `ServiceUnavailable` without NATS, and where the connection was lost meanwhile: answers may have been too.
    """
    connection = bus.reconnects
    if not bus.client.is_connected:
        raise ServiceUnavailable(service="nats", retry_after=1)
    try:
        payloads = await _gathered(bus, subject, question, seconds, most)
    except (nats.errors.Error, OSError):
        raise ServiceUnavailable(service="nats", retry_after=1) from None
    if bus.reconnects != connection:
        raise ServiceUnavailable(service="nats", retry_after=1)
    return payloads


async def _gathered(bus: Bus, subject: str, question: bytes, seconds: float, most: int) -> list[bytes]:
    inbox = bus.client.new_inbox()
    payloads: list[bytes] = []
    replies = await bus.client.subscribe(inbox, pending_msgs_limit=most)
    try:
        await bus.client.publish(subject, question, reply=inbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for reply in replies.messages:
                    if not reply.data:  # the server's word that there is nobody
                        break
                    payloads.append(reply.data)
                    if len(payloads) == most:
                        break
    finally:
        await replies.unsubscribe()
    return payloads
