"""What a start shows: on a terminal, as lines in a pipe, or as JSON to the parent of a detached supervisor."""

import contextlib
import os
import time
from typing import Protocol

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from services.cli.failure import Failure


class Reporter(Protocol):
    def begin(self, step: str) -> None: ...

    def done(self, step: str) -> None: ...

    def note(self, text: str) -> None:
        """Something worth a line, outside of any step."""

    def ready(self) -> None:
        """Everything is there: no more steps, only notes."""

    def failed(self, failure: Failure) -> None:
        """The start is given up."""


class Terminal:
    """Spinners while steps run, a tick for each that is done; plain lines where nobody watches."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._live = console.is_terminal

    def begin(self, step: str) -> None:
        self._began[step] = time.monotonic()
        if self._live:
            self._progress.start()
            self._tasks[step] = self._progress.add_task(escape(step), total=1)

    def done(self, step: str) -> None:
        if self._live:
            self._progress.update(self._tasks[step], completed=1)
        else:
            seconds = time.monotonic() - self._began[step]
            self._console.print(f"✓ {step} ({seconds:.1f} s)", markup=False, highlight=False)

    def note(self, text: str) -> None:
        # Neither a terminal that went away nor a closed pipe (rich: SystemExit) may end the supervisor.
        with contextlib.suppress(OSError, SystemExit):
            self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False)

    def ready(self) -> None:
        if self._live:
            self._progress.stop()
            self._live = False

    def failed(self, failure: Failure) -> None:
        """Only clears the screen: the failure itself is shown by the command that ends with it."""
        self.ready()


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from a detached supervisor to the command that started it."""

    begin: str = ""
    done: str = ""
    ready: bool = False
    failed: str = ""
    hint: str = ""
    detail: str = ""


class Pipe:
    """Reports to `descriptor` until the start has succeeded or failed; notes go to the supervisor's own log."""

    def __init__(self, descriptor: int, log: Console) -> None:
        self._descriptor: int | None = descriptor
        self._log = Terminal(log)

    def begin(self, step: str) -> None:
        self._send(Report(begin=step))

    def done(self, step: str) -> None:
        self._send(Report(done=step))

    def note(self, text: str) -> None:
        self._log.note(text)

    def ready(self) -> None:
        self._send(Report(ready=True))
        self._close()

    def failed(self, failure: Failure) -> None:
        self._send(Report(failed=failure.message, hint=failure.hint, detail=failure.detail))
        self._close()

    def _send(self, report: Report) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, msgspec.json.encode(report) + b"\n")
        except BrokenPipeError:
            self._close()  # whoever started us was interrupted; the installation goes on

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
