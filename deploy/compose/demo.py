"""The demonstration application of docker-compose.yml: created at the first run, its key printed at every run."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from services.cli.credentials import Credentials
from services.cli.datadir import DataDir
from services.cli.provision import provision


def main() -> None:
    data = DataDir(Path(os.environ["DEMO_DIRECTORY"]))
    data.create()
    nats_url = Path(os.environ["NATS_URL_FILE"]).read_text().strip()
    private = msgspec.json.decode(Path(os.environ["DEMO_CREDENTIALS_FILE"]).read_bytes())
    demo = asyncio.run(provision(data, nats_url, Credentials(private=private, tenant={})))
    click.echo(f"application {demo.application_id}\nX-API-Key   {demo.api_key}")


if __name__ == "__main__":
    main()
