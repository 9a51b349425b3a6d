"""Templates: define, version, look up, preview."""

from typing import Any

import msgspec

from libs import rpc
from libs.api.fields import Paging
from libs.api.templates import (
    RenderTestBody,
    RenderTested,
    Template,
    TemplateBody,
    TemplateBrief,
    TemplateChange,
    TemplateCreated,
    TemplateQuery,
    Templates,
    TemplatesQuery,
    TemplateSwitched,
    TemplateUpdated,
    TemplateVariant,
    TemplateVersion,
    TemplateVersions,
    Variant,
)
from services.ingest.decode import refuse, unstorable
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import pagination, rfc3339
from services.ingest.templating import ask, refusal

EXACT = 10_000
"""So far templates are counted."""


async def create(gateway: Gateway, call: Call[TemplateBody]) -> Answer:
    body = call.input
    _check_storable(body)
    request = rpc.CreateTemplate(
        application_id=call.caller.application_id,
        name=body.name,
        content=_content(body),
        actor=call.caller.actor,
        description=body.description,
        default_locale=body.default_locale,
        variants=[_variant(each) for each in body.variants],
        new_id=call.new_id,
    )
    made = await ask(gateway.bus, "create", request, rpc.TemplateView)
    data = TemplateCreated(made.id, made.name, rfc3339(made.created_at_ms), made.version)
    return Answer(201, data, resource=_resource(made))


async def get(gateway: Gateway, call: Call[TemplateQuery]) -> Answer:
    question = rpc.GetTemplate(call.caller.application_id, _named(call), call.input.version)
    found = await ask(gateway.bus, "get", question, rpc.TemplateView)
    return Answer(200, _rendered(found), modified_ms=found.updated_at_ms)


async def update(gateway: Gateway, call: Call[TemplateChange]) -> Answer:
    change = call.input
    _check_storable(change)
    request = rpc.UpdateTemplate(
        application_id=call.caller.application_id,
        template_id=_named(call),
        actor=call.caller.actor,
        name=change.name,
        content=rpc.ContentChange(change.title_template, change.body_template, change.data_template),
        description=change.description,
        default_locale=change.default_locale,
        variants=None if change.variants is None else [_variant(each) for each in change.variants],
    )
    made = await ask(gateway.bus, "update", request, rpc.TemplateView)
    data = TemplateUpdated(made.id, made.version, rfc3339(made.updated_at_ms))
    return Answer(200, data, resource=_resource(made))


async def enable(gateway: Gateway, call: Call[None]) -> Answer:
    return await _switch(gateway, call, True)


async def disable(gateway: Gateway, call: Call[None]) -> Answer:
    return await _switch(gateway, call, False)


async def list_all(gateway: Gateway, call: Call[TemplatesQuery]) -> Answer:
    query = call.input
    question = rpc.ListTemplates(call.caller.application_id, query.is_active, query.per_page, _offset(query))
    page = await ask(gateway.bus, "list", question, rpc.TemplatePage)
    return Answer(
        200, Templates([_brief(each) for each in page.templates], pagination(query, page.total, page.total > EXACT))
    )


async def versions(gateway: Gateway, call: Call[Paging]) -> Answer:
    query = call.input
    question = rpc.ListVersions(call.caller.application_id, _named(call), query.per_page, _offset(query))
    page = await ask(gateway.bus, "versions", question, rpc.TemplatePage)
    made = [
        TemplateVersion(
            version=each.version, created_at=rfc3339(each.updated_at_ms), actor=each.actor, variables=each.variables
        )
        for each in page.templates
    ]
    return Answer(200, TemplateVersions(made, pagination(query, page.total, page.total > EXACT)))


async def render_test(gateway: Gateway, call: Call[RenderTestBody]) -> Answer:
    body = call.input
    refuse(unstorable({"variables": body.variables}))
    wanted = rpc.RenderWanted(_named(call), body.variables, body.locale, body.channel, body.version)
    request = rpc.RenderMany(call.caller.application_id, [wanted], preview=True)
    (found,) = (await ask(gateway.bus, "render", request, rpc.RenderedMany)).results
    if (refused := refusal(found)) is not None:
        raise refused
    data = RenderTested(
        title=found.title,
        body=found.body,
        data=found.data,
        version=found.version,
        locale=found.locale,
        channel=found.channel,
    )
    return Answer(200, data)


async def _switch(gateway: Gateway, call: Call[None], is_active: bool) -> Answer:
    request = rpc.SetTemplateActive(call.caller.application_id, _named(call), is_active, call.caller.actor)
    found = await ask(gateway.bus, "set_active", request, rpc.TemplateView)
    data = TemplateSwitched(found.id, found.is_active, rfc3339(found.updated_at_ms))
    return Answer(200, data, resource=_resource(found))


def _named(call: Call[Any]) -> str:
    """The `{id}` of the path: our id, or the template's name."""
    return call.parameters["id"]


def _resource(view: rpc.TemplateView) -> str:
    """For the audit log, where the path may have said the name."""
    return f"template/{view.id}"


def _check_storable(body: TemplateBody | TemplateChange) -> None:
    """Raises `ValidationFailed`."""
    refuse(unstorable({name: value for name, value in msgspec.to_builtins(body).items() if value is not None}))


def _content(source: TemplateBody | Variant) -> rpc.TemplateContent:
    return rpc.TemplateContent(source.title_template, source.body_template, source.data_template or {})


def _variant(source: Variant) -> rpc.Variant:
    return rpc.Variant(_content(source), source.locale, source.channel)


def _rendered(view: rpc.TemplateView) -> Template:
    return Template(
        id=view.id,
        name=view.name,
        title_template=view.content.title_template,
        body_template=view.content.body_template,
        data_template=view.content.data_template,
        description=view.description,
        default_locale=view.default_locale,
        variants=[_shown(each) for each in view.variants],
        variables=view.variables,
        created_at=rfc3339(view.created_at_ms),
        updated_at=rfc3339(view.updated_at_ms),
        version=view.version,
        is_active=view.is_active,
        actor=view.actor,
    )


def _shown(variant: rpc.Variant) -> TemplateVariant:
    given = {**msgspec.to_builtins(variant.content), "locale": variant.locale, "channel": variant.channel}
    return msgspec.convert(given, TemplateVariant)


def _brief(view: rpc.TemplateView) -> TemplateBrief:
    return TemplateBrief(
        id=view.id,
        name=view.name,
        version=view.version,
        is_active=view.is_active,
        created_at=rfc3339(view.created_at_ms),
        updated_at=rfc3339(view.updated_at_ms),
    )


def _offset(query: Paging) -> int:
    return (query.page - 1) * query.per_page


_CONFIRMATION = {
    "title_template": "{{user_name}}님의 주문이 확인되었습니다",
    "body_template": "주문번호 {{order_id}}가 확인되었습니다. 결제금액: {{order_amount}}",
    "data_template": {"screen": "order_details", "order_id": "{{order_id}}", "highlight": True},
}

ROUTES = (
    Route(
        method="POST",
        path="/templates",
        summary="Create a template",
        scopes=("manage",),
        handler=create,
        body=TemplateBody,
        answer=TemplateCreated,
        status=201,
        errors=("invalid_template_variables",),
        audit="template.create",
        example={
            "name": "주문 확인 알림",
            **_CONFIRMATION,
            "default_locale": "ko",
            "variants": [{"locale": "en", "body_template": "Order {{order_id}} is confirmed, {{user_name}}."}],
        },
    ),
    Route(
        method="GET",
        path="/templates",
        summary="List templates",
        scopes=("read",),
        handler=list_all,
        query=TemplatesQuery,
        answer=Templates,
    ),
    Route(
        method="GET",
        path="/templates/{id}",
        summary="Look a template up by id or name",
        scopes=("read",),
        handler=get,
        query=TemplateQuery,
        answer=Template,
        errors=("template_not_found",),
    ),
    Route(
        method="PUT",
        path="/templates/{id}",
        summary="Make a new version: what is not given stays",
        scopes=("manage",),
        handler=update,
        body=TemplateChange,
        answer=TemplateUpdated,
        errors=("template_not_found", "invalid_template_variables"),
        audit="template.update",
        example=_CONFIRMATION,
    ),
    Route(
        method="GET",
        path="/templates/{id}/versions",
        summary="List a template's versions",
        scopes=("read",),
        handler=versions,
        query=Paging,
        answer=TemplateVersions,
        errors=("template_not_found",),
    ),
    Route(
        method="POST",
        path="/templates/{id}/enable",
        summary="Let messages use a template again",
        scopes=("manage",),
        handler=enable,
        answer=TemplateSwitched,
        errors=("template_not_found",),
        audit="template.enable",
    ),
    Route(
        method="POST",
        path="/templates/{id}/disable",
        summary="Let no message use a template",
        scopes=("manage",),
        handler=disable,
        answer=TemplateSwitched,
        errors=("template_not_found",),
        audit="template.disable",
    ),
    Route(
        method="POST",
        path="/templates/{id}/render-test",
        summary="Render a template without sending anything",
        scopes=("manage", "send"),
        handler=render_test,
        body=RenderTestBody,
        answer=RenderTested,
        errors=(
            "template_not_found",
            "missing_required_variable",
            "invalid_template_variables",
            "message_too_large",
        ),
        repeat="pure",
        example={"variables": {"user_name": "홍길동", "order_id": "ORD-12345", "order_amount": "35,000원"}},
    ),
)
