"""`automata serve`: what a container runs."""

import os
import runpy

import click

SERVICES = {
    "ingest": "ingest",
    "application": "application",
    "subscription": "subscription",
    "templating": "templating",
    "lifecycle": "lifecycle",
    "dispatcher": "dispatcher",
    "sender": "senders",
    "sandbox": "sandbox",
}
"""Service to the package under `services` that holds it."""

EXAMPLES = """\b
Examples:
  NATS_URL=nats://nats:4222 automata serve ingest
  DATABASE_URL_FILE=/run/secrets/lifecycle_dsn automata serve lifecycle
  automata serve lifecycle --only relay
  automata serve sender --channel fcm --region fra

\b
Settings are environment variables, AUTOMATA_<SECTION>__<KEY>; secrets may come from files (…_FILE):
  DATABASE_URL, NATS_URL           where application, subscription, templating and lifecycle keep data; NATS of all
  AUTOMATA_HEALTH__HOST, __PORT    where /livez, /readyz and /metrics are served
  AUTOMATA_HTTP__HOST, __PORT      the API (ingest)
  AUTOMATA_KEYS__RING_FILE         key ring (application, subscription, lifecycle, dispatcher)
  AUTOMATA_DISPATCHER__REGIONS     country to region of the senders: KR=icn,DE=fra; __REGION: of all others
  AUTOMATA_SENDER__STANDBY_FOR     regions to step in for while no sender lives there: * (any), none, fra,icn
"""


@click.command(epilog=EXAMPLES)
@click.argument("service", type=click.Choice(list(SERVICES)), metavar="SERVICE")
@click.option("--channel", type=click.Choice(["apns", "fcm"]), help="Of a sender: the provider it talks to.")
@click.option("--region", help="Of a sender: it takes the messages routed to this region.")
@click.option(
    "--only",
    type=click.Choice(["relay", "reconciler", "timekeeper"]),
    help="Of lifecycle: this one duty, apart from the rest.",
)
def serve(service: str, channel: str | None, region: str | None, only: str | None) -> None:
    """Run SERVICE until SIGTERM, which drains it. A wrong setting is named and ends it with exit code 2.

    SERVICE is one of ingest, application, subscription, templating, lifecycle, dispatcher, sender,
    sandbox.
    """
    _check(service, "sender", channel=channel, region=region)
    _check(service, "lifecycle", only=only)
    chosen = {
        "AUTOMATA_SENDER__CHANNEL": channel,
        "AUTOMATA_SENDER__REGION": region,
        "AUTOMATA_LIFECYCLE__ONLY": only,
    }
    os.environ.update({name: value for name, value in chosen.items() if value is not None})
    runpy.run_module(f"services.{SERVICES[service]}", run_name="__main__", alter_sys=True)


def _check(service: str, meant_for: str, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None and service != meant_for:
            raise click.UsageError(f"--{name} is an option of `serve {meant_for}`")
