"""What the templating service refuses, worded for the caller: it names a field's kind of reason and its value."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from libs import rpc
from libs.bus import Bus
from libs.errors import SignalError, from_code
from services.ingest.errors import Reason

R = TypeVar("R", bound=msgspec.Struct)


async def ask(bus: Bus, verb: str, request: msgspec.Struct, reply: type[R]) -> R:
    """Raises what the service raises, and `ServiceUnavailable`."""
    try:
        return await bus.call("templating", verb, request, reply)
    except SignalError as error:
        raise _worded(error) from None


def refusal(found: rpc.Rendered) -> SignalError | None:
    """Why one of many could not be rendered; None: it was."""
    if found.fault_code is None:
        return None
    return _worded(from_code(found.fault_code, found.fault_details))


def _worded(error: SignalError) -> SignalError:
    fields = error.details.get("fields")
    if isinstance(fields, Mapping):
        error.details["fields"] = {name: Reason(*reason) for name, reason in fields.items()}
    return error
