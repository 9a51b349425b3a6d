"""What other services may ask of templating (`signal.rpc.templating.*`)."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from libs import rpc
from services.templating.rendering import Renderer
from services.templating.templates import Templates


class Handlers:
    def __init__(self, templates: Templates, renderer: Renderer) -> None:
        self._templates = templates
        self._renderer = renderer

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "create": (rpc.CreateTemplate, self._templates.create),
            "update": (rpc.UpdateTemplate, self._templates.update),
            "get": (rpc.GetTemplate, self._templates.get),
            "list": (rpc.ListTemplates, self._templates.list_all),
            "versions": (rpc.ListVersions, self._templates.versions),
            "set_active": (rpc.SetTemplateActive, self._templates.set_active),
            "render": (rpc.RenderMany, self._renderer.render),
        }
