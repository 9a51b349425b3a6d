"""The demonstration application: created at the first start, found again at every later one."""

import hashlib
from typing import Literal

import msgspec

from libs import rpc
from libs.bus import Bus
from libs.config import Nats
from libs.errors import SignalError
from libs.ids import new_id
from services.cli import datadir
from services.cli.credentials import Credentials
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.vault import Demo

SCOPES = ["send", "read", "manage"]
PROVIDERS: tuple[Literal["apns", "fcm"], ...] = ("apns", "fcm")
_TIMEOUT = 20.0


async def provision(data: DataDir, nats_url: str, credentials: Credentials) -> Demo:
    """Its id and key. Raises `Failure` when the application service refuses."""
    path = data.secrets / "application.json"
    demo = datadir.read(path, Demo) or Demo(new_id())
    datadir.write(path, demo)  # an interrupted first start goes on with the same id
    bus = await Bus.connect(Nats(url=nats_url), "cli")
    try:
        if not demo.api_key:
            demo = msgspec.structs.replace(demo, api_key=await _create(bus, demo.application_id))
            datadir.write(path, demo)
        digest = hashlib.sha256(msgspec.json.encode(credentials.private)).hexdigest()
        if demo.credentials != digest:
            await _give_credentials(bus, demo.application_id, credentials)
            demo = msgspec.structs.replace(demo, credentials=digest)
            datadir.write(path, demo)
    except SignalError as error:
        raise Failure(
            f"the demonstration application could not be set up: {error.code}",
            f"look into {data.logs / 'application.log'} and start again",
        ) from None
    finally:
        await bus.close()
    return demo


async def _create(bus: Bus, application_id: str) -> str:
    create = rpc.CreateApplication(application_id, "Demonstration", "unlimited")
    await bus.call("application", "create_application", create, rpc.ApplicationCreated, _TIMEOUT)
    key = rpc.CreateKey(application_id, "demonstration", SCOPES)
    return (await bus.call("application", "create_key", key, rpc.KeyCreated, _TIMEOUT)).api_key


async def _give_credentials(bus: Bus, application_id: str, credentials: Credentials) -> None:
    for provider in PROVIDERS:
        request = rpc.SetCredential(application_id, provider, credentials.private[provider])
        await bus.call("application", "set_credential", request, rpc.CredentialInfo, _TIMEOUT)
