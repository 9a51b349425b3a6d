"""The command `automata`. Each subcommand is imported when it is asked for, so that help comes at once."""

import importlib

import click

COMMANDS = {
    "up": "Start everything on this machine and keep it running.",
    "down": "Stop what `up` started.",
    "status": "Show processes and their health.",
    "demo": "Send demonstration messages.",
    "stop": "Hold one process of a running installation down.",
    "start": "Start a process that was held down.",
    "serve": "Run one service from environment variables.",
    "migrate": "Bring the database schema up to date.",
    "send": "Send a message and show what becomes of it.",
    "resend": "Send again what failed or was cancelled.",
    "app": "Create and change applications and their provider credentials.",
    "key": "Create, list, rotate and revoke API keys.",
    "tail": "Follow what happens to messages.",
    "events": "Show the timeline of a message, with the why.",
    "projections": "Rebuild what is derived from the log.",
    "keys": "Rotate the keys that encrypt data at rest.",
    "backup": "Copy a running installation into a directory.",
    "restore": "Make a new installation from a backup.",
    "bench": "Measure throughput and latency on this machine.",
    "version": "Print the version.",
}
"""Every subcommand and its line in the help; module `services.cli.<name>` holds it under the same name."""
HIDDEN = frozenset({"demo", "stop", "start"})

EXAMPLES = """\b
First steps:
  automata up --demo             everything on this machine, with a demonstration
  automata send --type iOSPush --token abcd… --title Hello
  automata events show MESSAGE_ID
  automata tail

\b
In containers, one process each, configured by environment variables:
  DATABASE_URL=… automata migrate
  NATS_URL=… automata serve ingest
  NATS_URL=… automata serve sender --channel apns --region eu

Exit codes: 0 done, 1 failed, 2 used wrongly. `automata COMMAND --help` explains each command.
"""


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"services.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, text in COMMANDS.items() if name not in HIDDEN])


@click.group(cls=LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Automata Signal: self-hosted messaging. Nothing accepted is lost, and the log can prove it."""


if __name__ == "__main__":
    main(prog_name="automata")
