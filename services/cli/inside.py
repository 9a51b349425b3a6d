"""Asking the services of an installation directly, over NATS, as its operator."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from libs.bus import Bus
from libs.config import Nats
from libs.errors import ResourceNotFound, ServiceUnavailable, SignalError, ValidationFailed
from services.cli.datadir import DataDir
from services.cli.failure import Failure

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

CALL_SECONDS = 20.0
_CONNECT_SECONDS = 10.0

application_option = click.option(
    "--application",
    metavar="ID",
    envvar="AUTOMATA_APPLICATION",
    help="Which application. Default: the demonstration application of what runs in DIR.",
)


def ask(data_dir: Path, work: Callable[[Bus], Awaitable[T]]) -> T:
    """What `work` returns, at the NATS server that NATS_URL names, else at what runs in the data directory.

    Raises `Failure` where nobody answers, or the answer is no.
    """
    url = os.environ.get("NATS_URL") or DataDir(data_dir).runtime().nats_url
    return asyncio.run(_connected(url, work))


def call(data_dir: Path, verb: str, request: msgspec.Struct, reply: type[R]) -> R:
    """What the application service answers, otherwise as `ask`."""

    async def work(bus: Bus) -> R:
        return await bus.call("application", verb, request, reply, CALL_SECONDS)

    return ask(data_dir, work)


def application_of(given: str | None, data_dir: Path) -> str:
    """The application that a command is about. Raises `UsageError`, `Failure`."""
    if given is not None:
        return given
    if os.environ.get("NATS_URL"):
        raise click.UsageError("with NATS_URL, say which application: --application ID")
    return DataDir(data_dir).runtime().application_id


def actor() -> str:
    """Who does it, for the audit log: what the system calls the user who runs the command."""
    try:
        return f"cli:{getpass.getuser()}"[:100]
    except (KeyError, OSError):  # a container may run as a user without a name
        return "cli"


async def _connected(url: str, work: Callable[[Bus], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            bus = await Bus.connect(Nats(url=url), "cli")
    except (OSError, TimeoutError, ValueError):
        raise Failure("NATS cannot be reached", "check NATS_URL, or `automata status`") from None
    try:
        return await work(bus)
    except SignalError as error:
        raise _failure(error) from None
    finally:
        await bus.close()


def _failure(error: SignalError) -> Failure:
    if isinstance(error, ResourceNotFound):
        named = ", ".join(f"{name} {value}" for name, value in error.details.items())
        return Failure(f"there is no such thing: {named}", "`automata app list` and `automata key list` show what is")
    if isinstance(error, ValidationFailed):
        return Failure("the application service refused this", detail=_by_field(error.details.get("fields", {})))
    if isinstance(error, ServiceUnavailable):
        return Failure("the application service does not answer", "is it running? `automata status` shows it")
    return Failure(f"the application service answered {error.code}", "look into its log")


def _by_field(fields: dict[str, Any]) -> str:
    """The part of a setting as it must be written; what is an option of the command, in words."""
    told = {name if "." in name else name.replace("_", " "): reason for name, reason in fields.items()}
    return "\n".join(f"{name} {reason}" for name, reason in told.items())
