"""`automata resend`."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import click
import msgspec

from libs.api.fields import Channel
from libs.api.message_control import ResendManyBody
from services.cli.duration import Duration
from services.cli.gateway import installed
from services.cli.options import confirm, data_dir_option, yes_option

PAGE = 1_000
"""Messages of one request."""
EXAMPLES = """\b
Examples:
  automata resend --since 2h                       what failed within the last two hours
  automata resend --since 1d --channel apns --yes
  automata resend --status cancelled --template 0199…
"""


@click.command(epilog=EXAMPLES)
@click.option("--status", type=click.Choice(["failed", "cancelled"]), default="failed", show_default=True)
@click.option("--since", type=Duration(), metavar="TIME", help="Accepted within this time, such as 24h; else ever.")
@click.option("--channel", type=click.Choice(["apns", "fcm"]), help="Through this provider only.")
@click.option("--subscription", metavar="ID", help="To this subscription only.")
@click.option("--user", metavar="ID", help="To this person only: their id, or your own id of them.")
@click.option("--template", metavar="ID", help="Made from this template only, its id or its name.")
@yes_option
@data_dir_option
def resend(
    status: Literal["failed", "cancelled"],
    since: int | None,
    channel: Channel | None,
    subscription: str | None,
    user: str | None,
    template: str | None,
    yes: bool,
    data_dir: Path,
) -> None:
    """Send again what failed, or was cancelled: a further attempt of each message, newest first.

    Through the API that AUTOMATA_API_URL and AUTOMATA_API_KEY name, else through what runs in DIR.
    """
    accepted_from = None if since is None else (datetime.now(UTC) - timedelta(seconds=since)).isoformat()
    wanted = ResendManyBody(
        status=status,
        channel=channel,
        subscription_id=subscription,
        user_id=user,
        template_id=template,
        from_=accepted_from,
        limit=PAGE,
    )
    confirm(f"Send every message again that is {status} and fits?", yes)
    resent, skipped = asyncio.run(_resend(data_dir, wanted))
    click.echo(f"sent again: {resent}" + (f", skipped: {skipped}" if skipped else ""))


async def _resend(data_dir: Path, wanted: ResendManyBody) -> tuple[int, int]:
    """Page by page, to the end."""
    resent = skipped = 0
    async with installed(data_dir) as client:
        while True:
            done = await client.messages.resend_many(wanted)
            resent, skipped = resent + done.resent, skipped + done.skipped
            if done.next_cursor is None:
                return resent, skipped
            wanted = msgspec.structs.replace(wanted, cursor=done.next_cursor)
