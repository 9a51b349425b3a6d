"""Options that several commands share."""

from pathlib import Path

import click

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".data"),
    show_default=True,
    envvar="AUTOMATA_DATA_DIR",
    metavar="DIR",
    help="Directory of the installation.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def confirm(question: str, yes: bool) -> None:
    """Asks before something breaks; without an answer nothing is done, and the command fails. Raises `Abort`."""
    if not yes:
        click.confirm(question, abort=True, err=True)
