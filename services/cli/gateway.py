"""The REST API as the CLI uses it: the client SDK, its errors told as the CLI tells them."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import click

from libs.api.subscriptions import SubscriptionBody
from libs.client import ApiError, AsyncClient, Retries, Unreachable
from services.cli.datadir import DataDir
from services.cli.failure import Failure

_RETRIES = Retries(attempts=3, first_pause=0.5)
"""A person waits in front of the terminal."""


@contextlib.asynccontextmanager
async def gateway(api_url: str, api_key: str) -> AsyncIterator[AsyncClient]:
    """The API below `api_url`. Within it, refusals and silence become `Failure`."""
    base = api_url.rstrip("/") + "/api/v1"
    async with AsyncClient(base, api_key, retries=_RETRIES) as client:
        try:
            yield client
        except ApiError as error:
            detail = str(error.details) if error.details else ""
            raise Failure(f"{error.code} ({error.status}): {error.message}", detail=detail) from None
        except Unreachable as error:
            raise Failure(
                f"the API at {base} gives no answer ({error})",
                "is it running? `automata status` shows its processes",
            ) from None


def installed(data_dir: Path) -> contextlib.AbstractAsyncContextManager[AsyncClient]:
    """The API named by AUTOMATA_API_URL and AUTOMATA_API_KEY, else that of what runs in the data directory.

    Raises `UsageError` for one without the other: no key is shown to a server that it is not for.
    """
    url, key = os.environ.get("AUTOMATA_API_URL"), os.environ.get("AUTOMATA_API_KEY")
    if url and key:
        return gateway(url, key)
    if url or key:
        raise click.UsageError(f"{'AUTOMATA_API_KEY' if url else 'AUTOMATA_API_URL'} is needed too")
    runtime = DataDir(data_dir).runtime()
    return gateway(runtime.api_url, runtime.api_key)


async def register(client: AsyncClient, kind: str, token: str) -> str:
    """The id of the subscription with this token, which may exist already."""
    return (await client.subscriptions.upsert(SubscriptionBody(type=kind, token=token))).subscription_id
