"""What goes out over HTTP: the headers of every answer, its compression, and refusals in the caller's language."""

import math
import re
from collections.abc import Mapping

from aiohttp import hdrs, web
from aiohttp.web_response import ContentCoding
from multidict import CIMultiDict

from libs.errors import SignalError
from libs.ids import new_id
from services.ingest.compression import WORTH_IT, accepts_gzip
from services.ingest.errors import language_of, status_of
from services.ingest.render import failure

REQUEST_ID = "X-Request-Id"
SERVER = "automata-signal"
"""Instead of the names and versions of our libraries."""
JSON = "application/json; charset=utf-8"
NOT_KEPT = "no-store"
"""For everything but what was read: errors, and answers that may show a secret."""

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id_of(request: web.Request) -> str:
    """The caller's `X-Request-Id` if it is sane, else a new one."""
    given = request.headers.get(REQUEST_ID)
    return given if given is not None and _SANE_REQUEST_ID.fullmatch(given) else new_id()


def head(request_id: str, told: Mapping[str, str], content_type: str = JSON) -> CIMultiDict[str]:
    """Headers of any answer. `told` goes before what is usual."""
    headers = CIMultiDict(
        {
            hdrs.CONTENT_TYPE: content_type,
            REQUEST_ID: request_id,
            hdrs.SERVER: SERVER,
            hdrs.CACHE_CONTROL: NOT_KEPT,
        }
    )
    headers.update(told)
    return headers


def whole(request: web.Request, status: int, body: bytes, headers: CIMultiDict[str]) -> web.Response:
    """An answer whose body is there, compressed where that is worth it and welcome."""
    response = web.Response(status=status, body=body, headers=headers)
    if len(body) >= WORTH_IT and wants_gzip(request):
        response.enable_compression(ContentCoding.gzip)
    return response


def wants_gzip(request: web.Request) -> bool:
    return accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))


def refusal(
    request: web.Request, error: SignalError, request_id: str, told: Mapping[str, str] | None = None
) -> web.Response:
    status = status_of(error)
    headers = head(request_id, told or {})
    if status in (429, 503):
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(float(error.details.get("retry_after", 1)))))
    language = language_of(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    return whole(request, status, failure(error, language), headers)
