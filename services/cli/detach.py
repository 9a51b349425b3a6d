"""Start the supervisor in the background, and show here how it gets on."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

import msgspec
from rich.console import Console

from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure
from services.cli.logfile import LogFile
from services.cli.progress import Report, Terminal
from services.cli.stack import CODE

_TAIL_LINES = 20


def start_detached(data: DataDir, arguments: Sequence[str], console: Console) -> Runtime:
    """Run `automata up <arguments>` in a session of its own. Raises `Failure` if it does not come up."""
    data.create()
    log = LogFile(data.logs / "supervisor.log")
    reading, writing = os.pipe()
    output = log.open()
    try:
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "services.cli.main", "up", *arguments, "--report-to", str(writing)],
            cwd=CODE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writing],
            start_new_session=True,
        )
    finally:
        os.close(writing)
        os.close(output)
    with os.fdopen(reading, "rb") as reports:
        _follow(reports, Terminal(console), log)
    return data.runtime()


def _follow(reports: IO[bytes], terminal: Terminal, log: LogFile) -> None:
    for line in reports:
        report = msgspec.json.decode(line, type=Report)
        if report.begin:
            terminal.begin(report.begin)
        elif report.done:
            terminal.done(report.done)
        else:
            terminal.ready()
        if report.failed:
            raise Failure(report.failed, report.hint, report.detail)
        if report.ready:
            return
    terminal.ready()
    raise Failure("the supervisor ended while starting", f"look into {log.path}", log.tail(_TAIL_LINES))
