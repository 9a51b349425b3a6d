"""Requests that work: for every operation its documented example, said about things that exist."""

import io
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec

from libs.contract.operations import identifiers, kind_of, parameters_of, reads_stream
from libs.ids import UUID_PATTERN, new_id
from libs.pg import single_connection
from services.ingest.exchange import Route
from services.ingest.routes import PREFIX, ROUTES
from tests.contract.whole_platform import Tenant, Whole

OPERATIONS: dict[str, Route] = dict(zip(identifiers(ROUTES), ROUTES, strict=True))
"""Every operation by its id."""
Maker = Callable[[Whole, Tenant], Awaitable[str]]
Instead = Mapping[Maker, Maker]
NOTHING: Instead = MappingProxyType({})

_IS_ID = re.compile(UUID_PATTERN)
_number = count(1)
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent. `path` has its parameters in place."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    raw: bytes | None = None
    """Instead of `body`."""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Request":
        return replace(self, **changes)

    def with_headers(self, **headers: str) -> "Request":
        """Underscores stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})


class Reply(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.content)

    @property
    def data(self) -> Any:
        assert self.status < 300, self.content
        return self.body["data"]

    @property
    def code(self) -> str | None:
        """None: no error."""
        if not self.headers.get("Content-Type", "").startswith("application/json") or not self.content:
            return None
        error = self.body.get("error")
        return None if error is None else str(error["code"])


async def send(tenant: Tenant, request: Request, session: aiohttp.ClientSession | None = None) -> Reply:
    headers = {"X-API-Key": tenant.api_key, **request.headers}
    content = request.raw if request.body is None else msgspec.json.encode(request.body)
    if content is not None:
        headers = {"Content-Type": request.content_type, **headers}
    async with (session or tenant.session).request(
        request.method,
        PREFIX + request.path,
        params=request.query,
        data=None if content is None else io.BytesIO(content),
        headers={name: value for name, value in headers.items() if value},
        skip_auto_headers=("Content-Type",),
    ) as response:
        return Reply(response.status, response.headers, await response.read())


# Makers: each leaves something new to talk about, and gives what it is called by.


def fresh(prefix: str) -> str:
    return f"{prefix}-{next(_number)}-{new_id()[-6:]}"


def push_token() -> str:
    """Of an iOS device; never the same, but for the end, which answers show."""
    return f"{new_id()}{new_id()}".replace("-", "")[:60] + "beef"


async def subscription(whole: Whole, tenant: Tenant) -> str:
    made = await tenant.post("/subscriptions", {"type": "iOSPush", "token": push_token(), "ad_consent": True})
    return str(made.data["subscription_id"])


async def message(whole: Whole, tenant: Tenant) -> str:
    sent = await tenant.post("/messages", {"subscription_id": await subscription(whole, tenant), "title": "Hello"})
    return str(sent.data["message_id"])


async def external_id(whole: Whole, tenant: Tenant) -> str:
    """Of a user with one subscription."""
    name = fresh("person")
    linked = [await subscription(whole, tenant)]
    await tenant.post("/users/identify", {"external_id": name, "subscriptions": linked})
    return name


async def user(whole: Whole, tenant: Tenant) -> str:
    found = await tenant.get(f"/users/{await external_id(whole, tenant)}")
    return str(found.data["user_id"])


async def imported(whole: Whole, tenant: Tenant) -> str:
    identifier = new_id()
    path = f"/subscriptions/imports/{identifier}"
    await send(tenant, Request(method="PUT", path=path, raw=IMPORT, content_type=NDJSON))
    return identifier


async def stopped_channel(whole: Whole, tenant: Tenant) -> str:
    await tenant.post("/emergency-stops", {"channel": "apns"})
    return "apns"


IMPORT = b'{"type":"iOSPush","token":"%b"}\n' % (b"1b" * 32)
"""A file of one line. The same each time: under the id of an import there is one file."""


async def template(whole: Whole, tenant: Tenant) -> str:
    made = await tenant.post("/templates", {"name": fresh("template"), "body_template": "{{ name | default: 'Hi' }}"})
    return str(made.data["template_id"])


async def template_name(whole: Whole, tenant: Tenant) -> str:
    found = await tenant.get(f"/templates/{await template(whole, tenant)}")
    return str(found.data["name"])


async def waiting_message(whole: Whole, tenant: Tenant) -> str:
    """One that a retry holds back."""
    found = await message(whole, tenant)
    async with single_connection(whole.database.admin_dsn) as admin:
        await admin.execute(
            "INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason)"
            " VALUES ($1, $2, 'normal', now() + interval '1 hour', 'retry')",
            found,
            tenant.application_id,
        )
    return found


async def scheduled_message(whole: Whole, tenant: Tenant) -> str:
    """One that waits for its time."""
    body = {"subscription_id": await subscription(whole, tenant), "title": "Hello", "send_at_local": "09:00"}
    sent = await tenant.post("/messages", body)
    return str(sent.data["message_id"])


async def cancelled_message(whole: Whole, tenant: Tenant) -> str:
    found = await waiting_message(whole, tenant)
    assert (await tenant.post(f"/messages/{found}/cancel")).status == 200
    return found


async def deletion(whole: Whole, tenant: Tenant) -> str:
    deleted = await tenant.call("DELETE", f"/users/{await external_id(whole, tenant)}")
    return str(deleted.data["request_id"])


async def installation(whole: Whole, tenant: Tenant) -> str:
    name = fresh("installation")
    made = await tenant.post("/subscriptions", {"type": "iOSPush", "token": push_token(), "installation_id": name})
    assert made.status == 201
    return name


async def unconfirmed(whole: Whole, tenant: Tenant) -> str:
    """A subscription that waits for its owner's consent."""
    address = {"type": "Email", "token": f"{fresh('person')}@example.com", "double_opt_in": True}
    made = await tenant.post("/subscriptions", address)
    return str(made.data["subscription_id"])


def anything(path: str) -> str:
    """A path of the table with ids that nobody has."""
    for name in parameters_of(path):
        path = path.replace(f"{{{name}}}", new_id())
    return path


IN_PATH: dict[str, Maker] = {
    "/subscriptions/{id}": subscription,
    "/subscriptions/imports/{id}": imported,
    "/messages/{id}": message,
    "/users/{external_id}": external_id,
    "/templates/{id}": template,
    "/deletions/{id}": deletion,
    "/emergency-stops/{channel}": stopped_channel,
}
"""What makes one of what a variable part of a path names."""
IN_FIELD: dict[str, Maker] = {
    "subscription_id": subscription,
    "subscriptions": subscription,
    "subscription_ids": subscription,
    "user_id": user,
    "external_id": external_id,
    "template_id": template,
    "installation_id": installation,
}
"""Name of each field of a body or query that holds the id of something (or a list of ids)."""
FRESH: dict[tuple[str, str], Callable[[], str]] = {
    ("subscriptions_create", "token"): push_token,
    ("subscriptions_upsert", "token"): push_token,
    ("subscriptions_update_token", "token"): push_token,
    ("templates_create", "name"): lambda: fresh("template"),
}
"""Fields of operations that must be new each time."""
ALSO_CALLED: dict[str, tuple[Maker, ...]] = {
    "external_id": (external_id, user),
    "user_id": (user, external_id),
    "template_id": (template, template_name),
}
"""Whatever else the thing in such a place may be called by."""
SPECIAL: dict[tuple[str, str], Maker] = {
    ("messages_cancel", "id"): waiting_message,
    ("messages_resend", "id"): cancelled_message,
    ("messages_reschedule", "id"): scheduled_message,
    ("subscriptions_confirm", "id"): unconfirmed,
}
"""Operation and place where something other than usual must be there."""


async def _apns_credential(whole: Whole, tenant: Tenant) -> None:
    await send(tenant, await working("credentials_set_apns", whole, tenant))


async def _fcm_credential(whole: Whole, tenant: Tenant) -> None:
    await send(tenant, await working("credentials_set_fcm", whole, tenant))


BEFORE: dict[str, Callable[[Whole, Tenant], Awaitable[None]]] = {
    "credentials_delete_apns": _apns_credential,
    "credentials_delete_fcm": _fcm_credential,
}
"""What must have been done before an operation that names nothing."""


async def working(identifier: str, whole: Whole, tenant: Tenant, instead: Instead = NOTHING) -> Request:
    """A request that succeeds. Each call makes what it speaks of anew, with `instead` of the usual makers."""
    route = OPERATIONS[identifier]
    path = route.path
    for name in parameters_of(path):
        maker = SPECIAL.get((identifier, name)) or IN_PATH[kind_of(route.path, name)]
        path = path.replace(f"{{{name}}}", await instead.get(maker, maker)(whole, tenant))
    if identifier in BEFORE:
        await BEFORE[identifier](whole, tenant)
    if reads_stream(route):
        return Request(method=route.method, path=path, raw=IMPORT, content_type=route.media_types[0])
    body = None if route.example is None else await _living(identifier, route.example, whole, tenant, instead)
    return Request(method=route.method, path=path, body=body)


async def _living(identifier: str, value: Any, whole: Whole, tenant: Tenant, instead: Instead, name: str = "") -> Any:
    """The example, but for ids and what must be new."""
    if isinstance(value, dict):
        return {key: await _living(identifier, item, whole, tenant, instead, key) for key, item in value.items()}
    if isinstance(value, list):
        return [await _living(identifier, item, whole, tenant, instead, name) for item in value]
    if not isinstance(value, str):
        return value
    maker = SPECIAL.get((identifier, name)) or IN_FIELD.get(name)
    if maker is not None:
        return await instead.get(maker, maker)(whole, tenant)
    assert not _IS_ID.match(value), f"{identifier}: the example holds an id, {name}: say in IN_FIELD what makes one"
    return FRESH[identifier, name]() if (identifier, name) in FRESH else value


async def as_client(identifier: str, whole: Whole, tenant: Tenant, client: Tenant) -> Request:
    """What works with a key of scope `client`: about a subscription that it made itself, with that one's secret."""
    made = (await client.post("/subscriptions", {"type": "iOSPush", "token": push_token()})).data

    async def own(whole: Whole, tenant: Tenant) -> str:
        return str(made["subscription_id"])

    async def message_to_it(whole: Whole, tenant: Tenant) -> str:
        sent = await tenant.post("/messages", {"subscription_id": made["subscription_id"], "title": "Hello"})
        return str(sent.data["message_id"])

    request = await working(identifier, whole, tenant, {subscription: own, message: message_to_it})
    if identifier == "subscriptions_disable":
        request = request.but(body={"by": "user"})  # an app speaks for its user alone
    return request.with_headers(X_Subscription_Secret=made["subscription_secret"])
