"""What other services ask the templating service over NATS."""

from typing import Any

from libs import rpc
from libs.bus import Bus

SHOP = "01990000-0000-7000-8000-00000000000a"
OTHER = "01990000-0000-7000-8000-00000000000b"
NOBODY = "01990000-0000-7000-8000-00000000000f"
ACTOR = "key:01990000-0000-7000-8000-00000000000c"
GREETING = rpc.TemplateContent("{{ name }}님", "{{ name }}님, 안녕하세요", {"to": "{{ name }}", "n": 1})


async def create(bus: Bus, name: str = "greeting", application_id: str = SHOP, **more: Any) -> rpc.TemplateView:
    content = more.pop("content", GREETING)
    request = rpc.CreateTemplate(application_id, name, content, ACTOR, **more)
    return await bus.call("templating", "create", request, rpc.TemplateView)


async def update(bus: Bus, template_id: str, application_id: str = SHOP, **change: Any) -> rpc.TemplateView:
    content = rpc.ContentChange(**{key: change.pop(key) for key in list(change) if key.endswith("_template")})
    request = rpc.UpdateTemplate(application_id, template_id, "key:other", content=content, **change)
    return await bus.call("templating", "update", request, rpc.TemplateView)


async def get(bus: Bus, template_id: str, version: int | None = None, application_id: str = SHOP) -> rpc.TemplateView:
    request = rpc.GetTemplate(application_id, template_id, version)
    return await bus.call("templating", "get", request, rpc.TemplateView)


async def switch(bus: Bus, template_id: str, is_active: bool, application_id: str = SHOP) -> rpc.TemplateView:
    request = rpc.SetTemplateActive(application_id, template_id, is_active, "key:switch")
    return await bus.call("templating", "set_active", request, rpc.TemplateView)


async def versions(bus: Bus, template_id: str, application_id: str = SHOP, **paging: int) -> rpc.TemplatePage:
    request = rpc.ListVersions(application_id, template_id, **paging)
    return await bus.call("templating", "versions", request, rpc.TemplatePage)


async def render(
    bus: Bus, *wanted: rpc.RenderWanted, application_id: str = SHOP, preview: bool = False
) -> list[rpc.Rendered]:
    request = rpc.RenderMany(application_id, list(wanted), preview)
    return (await bus.call("templating", "render", request, rpc.RenderedMany)).results


def wish(template_id: str = "greeting", **more: Any) -> rpc.RenderWanted:
    return rpc.RenderWanted(template_id, more.pop("variables", {"name": "홍길동"}), **more)
