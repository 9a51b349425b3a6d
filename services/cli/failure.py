"""What went wrong, and what to do: the one way in which a command of the CLI fails."""

from typing import IO, Any

import click
from rich.console import Console
from rich.markup import escape


class Failure(click.ClickException):
    """Ends the command with exit code 1. `hint` says what the reader can do, `detail` is quoted output."""

    def __init__(self, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.detail = detail

    def show(self, file: IO[Any] | None = None) -> None:
        console = Console(file=file, stderr=file is None, highlight=False, soft_wrap=True)
        console.print(f"[bold red]Error:[/] {escape(self.message)}")
        if self.detail:
            console.print(f"[dim]{escape(self.detail.rstrip())}[/]")
        if self.hint:
            console.print(f"[bold]What to do:[/] {escape(self.hint)}")
