"""`automata bench`."""

import importlib.util
import subprocess
import sys

import click

from services.cli.failure import Failure
from services.cli.stack import CODE


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure throughput and latency on this machine; needs a checkout of the sources. Arguments go to tests.bench."""
    if importlib.util.find_spec("tests") is None or importlib.util.find_spec("tests.bench") is None:
        raise Failure("the benchmarks are not installed", "run this in a checkout of the sources")
    command = [sys.executable, "-m", "tests.bench", *arguments]
    raise SystemExit(subprocess.run(command, cwd=CODE, check=False).returncode)  # noqa: S603 - ourselves
