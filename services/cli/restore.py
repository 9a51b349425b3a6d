"""`automata restore`."""

import asyncio
import os
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from services.cli import archive, datadir
from services.cli.archive import Erasures, Manifest
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.old_streams import passwords_of
from services.cli.options import data_dir_option, json_option
from services.cli.progress import Terminal
from services.cli.restoring import Restored, Restoring, Wanted

EXAMPLES = """\b
Examples:
  automata restore /backups/monday --data-dir new --from old
  automata restore /backups/monday --data-dir new --erasures /backups/erasures.json
  automata up --data-dir new
"""


@click.command(epilog=EXAMPLES)
@click.argument("backup", type=click.Path(exists=True, file_okay=False, path_type=Path))
@data_dir_option
@click.option(
    "--from",
    "old",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="OLD_DIR",
    help="The installation that was lost, stopped: what its streams know of the time since the backup is taken over.",
)
@click.option(
    "--erasures",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Of `automata backup --erasures-only`: whom to forget again.",
)
@click.option(
    "--waiting",
    type=click.Choice(["keep", "fail"]),
    help="Messages whose time is still to come. Default: keep them with --from, else fail them.",
)
@click.option(
    "--epoch", type=click.IntRange(0, 32_000), default=0, help="The highest epoch that was ever used, if known."
)
@json_option
def restore(
    backup: Path,
    data_dir: Path,
    old: Path | None,
    erasures: Path | None,
    waiting: str | None,
    epoch: int,
    as_json: bool,
) -> None:
    """Make a new installation in DIR, which must not exist, from the directory BACKUP. `automata up` then starts it.

    Nothing is sent twice: a message that was unfinished at the backup is failed with reason `restored_unknown`, unless
    the old installation's streams tell what became of it; it can be sent again by hand. The epoch of the log rises, so
    that whoever follows it goes on without a gap. Persons erased since the backup are erased again.
    """
    os.umask(0o077)
    manifest = archive.read_manifest(backup)
    target = DataDir(data_dir)
    _check(manifest, target, old)
    wanted = Wanted(
        None if old is None else DataDir(old),
        None if erasures is None else datadir.read(erasures, Erasures),
        None if waiting is None else waiting == "keep",
        epoch,
    )
    console = Console(stderr=True, highlight=False, quiet=as_json)
    restoring = Restoring(backup, manifest, target, Terminal(console))
    restored = asyncio.run(restoring.run(wanted)) if wanted.old is None else _from_old(restoring, wanted, wanted.old)
    if as_json:
        click.echo(msgspec.json.encode(restored).decode())
    else:
        _show(Console(highlight=False, soft_wrap=True), restored, target)


def _check(manifest: Manifest, target: DataDir, old: Path | None) -> None:
    """Raises `Failure`."""
    if target.path.exists() and (not target.path.is_dir() or any(target.path.iterdir())):
        raise Failure(f"{target.path} is not empty", "name a directory that does not exist yet with --data-dir")
    if old is not None:
        passwords_of(DataDir(old))
        if DataDir(old).is_running():
            raise Failure(
                f"automata is running in {old}",
                "end it with `automata down`: what two installations have in hand would be sent twice",
            )
    here = archive.postgres_version()
    if here.split(".")[0] != manifest.postgres.split(".")[0]:
        raise Failure(
            f"the backup is of Postgres {manifest.postgres}, here is {here}", "install the same major version"
        )


def _from_old(restoring: Restoring, wanted: Wanted, old: DataDir) -> Restored:
    """Nobody starts the old one meanwhile."""
    if not old.lock():
        raise Failure(f"automata is running in {old.path}", "end it with `automata down`")
    try:
        return asyncio.run(restoring.run(wanted))
    finally:
        old.unlock()


def _show(console: Console, restored: Restored, target: DataDir) -> None:
    taken = f"{restored.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"[bold green]Restored[/] into {escape(str(target.path))}, as of {taken}; epoch {restored.epoch}.")
    if restored.history == "none":
        console.print("[bold yellow]Not checked:[/] what became of messages after the backup (no --from).")
    else:
        console.print(f"  {restored.learned} later facts were taken over from the old event stream.")
        console.print(f"  {restored.missing} messages accepted later are not in the backup.")
    if restored.history == "part":
        console.print("[bold yellow]The old event stream does not reach back to the backup.[/]")
    console.print(f"  {restored.unknown} messages are failed with `restored_unknown`: they may have been sent since.")
    console.print(f"  {restored.waiting} messages wait for their time.")
    if restored.erasures_until is not None:
        console.print(f"  {restored.erasures} of {restored.erasures_known} known erasures had to be applied again.")
    else:
        console.print(
            "[bold red]Not checked:[/] persons who were erased after the backup are readable again. "
            "Restore with --from or --erasures, or erase them once more."
        )
    console.print(f"Start it with `automata up --data-dir {escape(str(target.path))}`.")
