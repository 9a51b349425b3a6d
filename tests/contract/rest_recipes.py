"""How to reach each error of each operation: by its code, and where an operation is peculiar, by both.

A recipe gives what to send, to be answered with that code. Documented without a recipe fails the test of completeness.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from libs import rpc
from libs.contract.operations import EVERY_SCOPE, parameters_of, reads_stream
from libs.errors import InternalError, ServiceUnavailable
from libs.ids import new_id
from services.ingest.limits import LIMITS
from tests.contract import rest_requests
from tests.contract.rest_faults import failing
from tests.contract.rest_requests import IN_FIELD, OPERATIONS, Request, anything, fresh, working
from tests.contract.whole_platform import Tenant, Whole


@dataclass(frozen=True)
class Case:
    """Sent by `tenant`, while `trouble` lasts."""

    tenant: Tenant
    request: Request
    trouble: AbstractContextManager[object] = field(default_factory=nullcontext)


Recipe = Callable[[Whole, Tenant, str], Awaitable[Case]]
BY_CODE: dict[str, Recipe] = {}
BY_BOTH: dict[tuple[str, str], Recipe] = {}


def recipe_for(identifier: str, code: str) -> Recipe | None:
    return BY_BOTH.get((identifier, code)) or BY_CODE.get(code)


def reaches(code: str, *identifiers: str) -> Callable[[Recipe], Recipe]:
    """Without operations: on any."""

    def register(recipe: Recipe) -> Recipe:
        if not identifiers:
            BY_CODE[code] = recipe
        for identifier in identifiers:
            assert identifier in OPERATIONS, f"{identifier} is no operation any more"
            BY_BOTH[identifier, code] = recipe
        return recipe

    return register


@reaches("authentication_failed")
async def without_a_key(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return Case(tenant, (await working(identifier, whole, tenant)).with_headers(X_API_Key=""))


@reaches("permission_denied")
async def with_a_key_for_something_else(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    missing: list[str] = [scope for scope in EVERY_SCOPE if scope not in OPERATIONS[identifier].scopes]
    other = await whole.with_key(tenant.application_id, missing[:1])
    return Case(other, await working(identifier, whole, tenant))


@reaches("invalid_request")
async def with_half_a_body(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    raw = None if reads_stream(OPERATIONS[identifier]) else b'{"'
    return Case(tenant, (await working(identifier, whole, tenant)).but(body=None, raw=raw))


@reaches("unsupported_media_type")
async def with_another_kind_of_body(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return Case(tenant, (await working(identifier, whole, tenant)).but(body=None, raw=b"<a/>", content_type="text/xml"))


@reaches("payload_too_large")
async def with_a_body_that_is_too_large(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return Case(tenant, (await working(identifier, whole, tenant)).but(body=None, raw=b" " * (6 * 1024 * 1024)))


@reaches("validation_error")
async def with_a_field_that_nobody_knows(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    request = await working(identifier, whole, tenant)
    if OPERATIONS[identifier].body is None:
        return Case(tenant, request.but(query={**request.query, "no_such_field": "1"}))
    return Case(tenant, request.but(body={**(request.body or {}), "no_such_field": 1}))


@reaches("idempotency_key_reused")
async def with_a_key_that_another_request_had(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    other = await rest_requests.send(
        tenant, (await working("subscriptions_create", whole, tenant)).with_headers(Idempotency_Key="taken")
    )
    assert other.status == 201
    return Case(tenant, (await working(identifier, whole, tenant)).with_headers(Idempotency_Key="taken"))


@reaches("rate_limit_exceeded")
async def after_everything_else_in_the_minute(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    request = await working(identifier, whole, tenant)
    poor = await whole.tenant(tier="default")
    limit = LIMITS["default"] or 0
    await whole.bus.call("application", "lease", rpc.LeaseRequests(poor.application_id, limit, limit), rpc.Lease)
    return Case(poor, request)


@reaches("internal_server_error")
async def while_a_service_is_broken(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return Case(tenant, await working(identifier, whole, tenant), failing(InternalError))


@reaches("service_unavailable")
async def while_a_service_is_away(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return Case(tenant, await working(identifier, whole, tenant), failing(ServiceUnavailable))


@reaches("resource_not_found")
async def about_something_that_does_not_exist(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    """What the path names; without a name there, the first that the body names; without a body, what was never set."""
    route, request = OPERATIONS[identifier], await working(identifier, whole, tenant)
    if parameters_of(route.path):
        return Case(tenant, request.but(path=anything(route.path)))
    if request.body is None:
        return Case(await whole.tenant(), request)
    return Case(tenant, request.but(body=_with_first_id(request.body)))


@reaches("resource_not_found", "subscriptions_imports_put")
async def under_what_cannot_be_an_id(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return Case(tenant, (await working(identifier, whole, tenant)).but(path="/subscriptions/imports/mine"))


def _with_first_id(body: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in body if name in IN_FIELD and name != "external_id")
    return {**body, name: [new_id()] if isinstance(body[name], list) else new_id()}


async def _with(whole: Whole, tenant: Tenant, identifier: str, **fields: Any) -> Case:
    request = await working(identifier, whole, tenant)
    return Case(tenant, request.but(body={**(request.body or {}), **fields}))


@reaches("invalid_subscription_type", "subscriptions_create", "subscriptions_upsert")
async def of_a_type_that_nobody_knows(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _with(whole, tenant, identifier, type="Telegraph")


@reaches("invalid_token")
async def with_a_token_that_is_none(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _with(whole, tenant, identifier, token="not hexadecimal")


@reaches("duplicate_subscription")
async def with_the_token_of_another(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    token = rest_requests.push_token()
    await tenant.post("/subscriptions", {"type": "iOSPush", "token": token})
    return await _with(whole, tenant, identifier, token=token)


@reaches("subscription_disabled")
async def to_somebody_who_does_not_want_any(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    case = await _with(whole, tenant, identifier)
    await tenant.post(f"/subscriptions/{case.request.body['subscription_id']}/disable")
    return case


@reaches("invalid_message_content")
async def that_says_nothing(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _with(whole, tenant, identifier, title=None, body=None)


@reaches("message_too_large")
async def that_says_too_much(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _with(whole, tenant, identifier, title="long " * 2000)


@reaches("invalid_subscription_type", "messages_send", "messages_send_template")
async def to_a_channel_without_sender(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    made = await tenant.post(
        "/subscriptions", {"type": "Email", "token": f"{new_id()}@example.com", "ad_consent": True}
    )
    return await _with(whole, tenant, identifier, subscription_id=made.data["subscription_id"])


@reaches("invalid_message_content", "messages_resend")
async def whose_content_was_erased(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    name = fresh("person")
    recipient = await rest_requests.subscription(whole, tenant)
    await tenant.post("/users/identify", {"external_id": name, "subscriptions": [recipient]})
    sent = await tenant.post("/messages", {"subscription_id": recipient, "title": "Hello"})
    await tenant.call("DELETE", f"/users/{name}")
    return Case(tenant, Request(method="POST", path=f"/messages/{sent.data['message_id']}/resend"))


@reaches("message_already_processed")
async def that_is_over_or_still_under_way(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    """What was received cannot be cancelled, what was not even sent cannot be sent again, and what does not wait for
    its time cannot be given another."""
    sent = await rest_requests.message(whole, tenant)
    if identifier == "messages_cancel":
        await tenant.post(f"/messages/{sent}/status", {"status": "received"})
    return Case(tenant, (await working(identifier, whole, tenant)).but(path=f"/messages/{sent}/{identifier[9:]}"))


async def _about(tenant: Tenant, identifier: str, case: Case, source: str, variables: dict[str, Any]) -> Case:
    """The same with a template that says `source`, rendered with `variables`."""
    made = await tenant.post("/templates", {"name": fresh("template"), "body_template": source})
    name, request = made.data["template_id"], case.request
    if identifier == "templates_render_test":
        return replace(case, request=request.but(path=f"/templates/{name}/render-test", body={"variables": variables}))
    body = {"subscription_id": request.body["subscription_id"], "template_id": name, "variables": variables}
    return replace(case, request=request.but(body=body))


@reaches("template_not_found")
async def with_a_template_that_nobody_has(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    case = await _with(whole, tenant, identifier)
    if parameters_of(OPERATIONS[identifier].path):
        return replace(case, request=case.request.but(path=anything(OPERATIONS[identifier].path)))
    body = {"subscription_id": case.request.body["subscription_id"], "template_id": new_id()}
    return replace(case, request=case.request.but(body=body))


@reaches("template_inactive")
async def with_a_template_that_is_disabled(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    case = await _about(tenant, identifier, await _with(whole, tenant, identifier), "Hi", {})
    await tenant.post(f"/templates/{case.request.body['template_id']}/disable")
    return case


@reaches("missing_required_variable")
async def without_a_variable(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _about(tenant, identifier, await _with(whole, tenant, identifier), "{{ name }}", {})


@reaches("invalid_template_variables")
async def with_variables_that_cannot_be_rendered(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    endless = "{% for a in list %}{% for b in list %}{% for c in list %}{{ a }}{% endfor %}{% endfor %}{% endfor %}"
    variables = {"list": list(range(1000))}
    return await _about(tenant, identifier, await _with(whole, tenant, identifier), endless, variables)


@reaches("invalid_template_variables", "templates_create", "templates_update")
async def that_is_no_liquid(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _with(whole, tenant, identifier, body_template="{{ name")


@reaches("message_too_large", "messages_send_template", "templates_render_test")
async def rendered_to_too_much(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    variables = {"name": "long " * 20_000}
    return await _about(tenant, identifier, await _with(whole, tenant, identifier), "{{ name }}", variables)


@reaches("invalid_message_content", "messages_send_template")
async def rendered_to_nothing(whole: Whole, tenant: Tenant, identifier: str) -> Case:
    return await _about(tenant, identifier, await _with(whole, tenant, identifier), "{{ name }}", {"name": ""})
