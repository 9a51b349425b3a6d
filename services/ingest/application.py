"""The application itself: what it is called, and its settings."""

from typing import Any

import msgspec

from libs import rpc
from libs.api.application import Application, ApplicationUpdate
from services.ingest.decode import refuse, unstorable
from services.ingest.exchange import Answer, Call, Gateway, Route


class _Given(msgspec.Struct, frozen=True):
    """The body once more: with the settings that only the application itself knows."""

    settings: dict[str, Any] = {}


_given = msgspec.json.Decoder(_Given).decode


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.GetApplication(call.caller.application_id)
    found = await gateway.bus.call("application", "get_application", question, rpc.ApplicationView)
    return Answer(200, _rendered(found))


async def update(gateway: Gateway, call: Call[ApplicationUpdate]) -> Answer:
    settings = _given(call.body).settings
    refuse(unstorable({"settings": settings}))
    request = rpc.UpdateApplication(
        application_id=call.caller.application_id,
        actor=call.caller.actor,
        name=call.input.name,
        settings=settings,
        request_id=call.request_id,
    )
    changed = await gateway.bus.call("application", "update_application", request, rpc.ApplicationView)
    return Answer(200, _rendered(changed))


def _rendered(view: rpc.ApplicationView) -> Application:
    return Application(view.id, view.name, view.tier, view.settings)


ROUTES = (
    Route(
        method="GET",
        path="/application",
        summary="The application of the key: its name, tier and settings",
        scopes=("read",),
        handler=get,
        answer=Application,
    ),
    Route(
        method="PATCH",
        path="/application",
        summary="Rename the application, change its settings: what is not named stays, null takes a setting away",
        scopes=("manage",),
        handler=update,
        body=ApplicationUpdate,
        answer=Application,
        example={
            "settings": {
                "timezone": "Asia/Seoul",
                "quiet_hours": {"start": "21:30", "end": "08:00"},
                "frequency_caps": [{"limit": 2, "per": "day", "category": "ad"}],
                "rates": {"apns": 500, "fcm": 2000},
                "receipt_timeout_hours": 72,
            }
        },
    ),
)
