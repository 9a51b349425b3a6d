"""The services behind the gateway fail, as the gateway's bus would tell it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from libs.bus import Bus
from libs.errors import SignalError

_STILL_ANSWERED = {"authenticate", "verify_secret", "lease"}
"""Verbs that stand before every operation: they work, so that it is the operation that fails."""


@contextlib.contextmanager
def failing(error: type[SignalError]) -> Iterator[None]:
    """Every question to a service raises `error`."""
    call = Bus.call

    async def fail(bus: Bus, service: str, verb: str, *rest: Any, **named: Any) -> Any:
        if verb in _STILL_ANSWERED:
            return await call(bus, service, verb, *rest, **named)
        raise error(service=service)

    # The one place where all questions pass.
    Bus.call = fail  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Bus.call = call  # type: ignore[method-assign]
