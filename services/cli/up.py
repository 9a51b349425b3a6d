"""`automata up`: the whole installation on this machine, in one command."""

import asyncio
import os
from pathlib import Path

import click
import msgspec
from rich.console import Console

from libs.subjects import Country, Region
from services.cli import datadir
from services.cli.bringup import Installation
from services.cli.datadir import DataDir, Runtime
from services.cli.demo import demonstrate
from services.cli.detach import start_detached
from services.cli.failure import Failure
from services.cli.options import data_dir_option
from services.cli.progress import Pipe, Terminal
from services.cli.stack import Options
from services.cli.welcome import welcome

EXAMPLES = """\b
Examples:
  automata up                    start, and stay in the foreground
  automata up --demo             the same, and send a few messages to look at
  automata up --detach           return when everything is ready
  automata up --port-base 8080   API on 8080, sandbox on 8081, the rest above
  automata up --region icn=KR,JP --region fra=DE
                                 senders of two regions; icn serves all other countries too
"""


@click.command(epilog=EXAMPLES)
@data_dir_option
@click.option("--detach", is_flag=True, help="Return when everything is ready; `automata down` ends it.")
@click.option(
    "--port-base",
    type=click.IntRange(1, 65_000),
    metavar="N",
    help="Use ports N, N+1, … Without it: those of the last start, or free ones.",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that serve the API."
)
@click.option(
    "--senders", type=click.IntRange(1, 16), default=1, show_default=True, help="Processes of each channel and region."
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    metavar="NAME[=COUNTRY,…]",
    help="Run senders in this region, for recipients in these countries. The first serves all other countries too.",
)
@click.option("--demo", "with_demo", is_flag=True, help="Send a few messages and show what became of them.")
@click.option("--env-for", type=(str, str), multiple=True, hidden=True, metavar="NAME KEY=VALUE")
@click.option("--report-to", type=int, hidden=True)
def up(
    data_dir: Path,
    detach: bool,
    port_base: int | None,
    workers: int,
    senders: int,
    regions: tuple[str, ...],
    with_demo: bool,
    env_for: tuple[tuple[str, str], ...],
    report_to: int | None,
) -> None:
    """Start Postgres, NATS, every service and the provider sandbox, and keep them running.

    Nothing else is needed on the machine. Data, keys and logs stay in the data directory, and `up` again goes on with
    them. Ctrl-C, or `automata down` from elsewhere, stops everything in order.
    """
    os.umask(0o077)  # whatever the shell allows, files made from here on are the owner's alone
    data = DataDir(data_dir)
    options = Options(port_base, workers, _overrides(env_for), senders, _regions(regions))
    if detach:
        _detach(data, options, with_demo)
        return
    _lock(data)
    if report_to is None:
        _in_foreground(data, options, with_demo)
    else:
        pipe = Pipe(report_to, Console(highlight=False, force_terminal=False))
        asyncio.run(Installation(data, options, pipe).run(_quietly))


def _detach(data: DataDir, options: Options, with_demo: bool) -> None:
    console = Console(highlight=False)
    runtime = start_detached(data, _arguments(data, options), console)
    welcome(console, runtime, data)
    if with_demo:
        asyncio.run(demonstrate(runtime, console))


def _in_foreground(data: DataDir, options: Options, with_demo: bool) -> None:
    console = Console(highlight=False)

    async def announce(runtime: Runtime) -> None:
        welcome(console, runtime, data)
        if with_demo:
            await demonstrate(runtime, console)
        console.print("Running. Ctrl-C stops everything.")

    asyncio.run(Installation(data, options, Terminal(console)).run(announce))


async def _quietly(_: Runtime) -> None:
    """Whoever started us reads the end of the report and then runtime.json."""


def _lock(data: DataDir) -> None:
    taken_over = datadir.read(data.superseded_file, str)
    if taken_over is not None:
        raise Failure(
            f"this installation was restored into {taken_over}: started again, it would send messages twice",
            f"start that one; or remove {data.superseded_file} if it was never started",
        )
    data.create()
    if not data.lock():
        raise Failure(
            f"automata is already running in {data.path}",
            "see `automata status`, end it with `automata down`, or choose another --data-dir",
        )


def _overrides(pairs: tuple[tuple[str, str], ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, assignment in pairs:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--env-for {name} wants KEY=VALUE")
        found.setdefault(name, {})[key] = value
    return found


def _regions(given: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for text in given:
        name, _, countries = text.partition("=")
        listed = [country for country in countries.split(",") if country]
        try:
            msgspec.convert(name, Region)
            msgspec.convert(listed, list[Country])
        except msgspec.ValidationError as error:
            raise click.UsageError(f"--region {text}: {error}") from None
        if name in found or not taken.isdisjoint(listed):
            raise click.UsageError(f"--region {text}: a region, or a country, is named twice")
        found[name] = listed
        taken.update(listed)
    return found


def _arguments(data: DataDir, options: Options) -> list[str]:
    """The command line that says the same again."""
    arguments = ["--data-dir", str(data.path), "--workers", str(options.workers), "--senders", str(options.senders)]
    if options.port_base is not None:
        arguments += ["--port-base", str(options.port_base)]
    for name, countries in options.regions.items():
        arguments += ["--region", f"{name}={','.join(countries)}"]
    for name, assignments in options.overrides.items():
        for key, value in assignments.items():
            arguments += ["--env-for", name, f"{key}={value}"]
    return arguments
