"""Answers to what no route of the table answers: health, other methods, other paths, preflights of browsers."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from libs.errors import MethodNotAllowed, ResourceNotFound
from services.ingest.cors import Cors
from services.ingest.responses import REQUEST_ID, SERVER, refusal, request_id_of

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def with_request_id(handler: HttpHandler) -> HttpHandler:
    """For answers that are made elsewhere, such as health."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        response.headers[REQUEST_ID] = request_id_of(request)
        response.headers[hdrs.SERVER] = SERVER
        return response

    return answer


async def no_such_path(request: web.Request) -> web.Response:
    return refusal(request, ResourceNotFound(path=request.path[:200]), request_id_of(request))


class WrongMethod:
    """Answers every method that a path does not have; a preflight is the one that may be asked of any path."""

    def __init__(self, allowed: Sequence[str], cors: Cors) -> None:
        self._allowed = list(allowed)
        self._cors = cors
        self._answer = with_request_id(self._settle)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request)

    async def _settle(self, request: web.Request) -> web.Response:
        preflight = self._cors.preflight(request, self._allowed)
        if preflight is not None:
            return preflight
        error = MethodNotAllowed(allowed=self._allowed)
        return refusal(request, error, request_id_of(request), {hdrs.ALLOW: ", ".join(self._allowed)})
