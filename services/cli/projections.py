"""`automata projections`."""

import asyncio
import importlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from libs.errors import ServiceUnavailable
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.options import data_dir_option

PROGRESS_SECONDS = 3.0


@click.group()
def projections() -> None:
    """What is derived from the log, and can be made again from it."""


@projections.command()
@data_dir_option
def rebuild(data_dir: Path) -> None:
    """Make `messages` what the log says, and compare the checksums. Exit code 1 when they differ.

    In the database that DATABASE_URL names, else in what runs in DIR. Messages may flow meanwhile, and it may be
    stopped at any time and run again. Checksums are of all rows as they were, and as the log has them.
    """
    dsn = os.environ.get("DATABASE_URL") or DataDir(data_dir).runtime().postgres_dsn
    # Services do not import each other; lifecycle owns the log, and this command is a door to it.
    lifecycle = importlib.import_module("services.lifecycle.rebuild")
    try:
        rebuilt = asyncio.run(lifecycle.rebuild(dsn, now_and_then(time.monotonic)))
    except ServiceUnavailable as error:
        raise Failure("Postgres went away", "run it again: what is done stays") from error
    for name in ("messages", "changed", "strangers", "checksum before", "checksum after"):
        click.echo(f"{name:<16} {getattr(rebuilt, name.replace(' ', '_'))}")
    if rebuilt.checksum_before != rebuilt.checksum_after:
        raise Failure(
            "the projection was not what the log says",
            "changed rows are right now. Strangers are rows that the log does not know: no service makes one, so find "
            "out who did",
        )


def now_and_then(clock: Callable[[], float]) -> Callable[[Any], None]:
    """Tells on standard error how far it is, every few seconds of `clock`."""
    began = said = clock()

    def say(rebuilt: Any) -> None:
        nonlocal said
        now = clock()
        if now - said < PROGRESS_SECONDS:
            return
        said = now
        moment = datetime.fromtimestamp(rebuilt.reached, UTC)
        rate = rebuilt.messages / (now - began)
        click.echo(
            f"{rebuilt.messages:,} messages, up to {moment:%Y-%m-%d %H:%M:%S} UTC, {rate:,.0f}/s; "
            f"{rebuilt.changed:,} changed",
            err=True,
        )

    return say
