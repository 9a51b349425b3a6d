"""FCM's HTTP v1 `messages:send`, with Google's errors.

Sources: REST reference `projects.messages.send`, `ErrorCode`; error bodies as quoted in the SDKs' issue trackers.
Registration tokens that act by themselves, for developers of clients:

| token begins with | answer |
|---|---|
| `unregistered` | 404 UNREGISTERED |
| `invalid` | 400 INVALID_ARGUMENT, the registration token is not valid |
| `mismatch` | 403 SENDER_ID_MISMATCH |
"""

import itertools
import re
from collections.abc import Callable
from typing import Any

import msgspec

from services.sandbox.exchange import Reply, Request, Verdict
from services.sandbox.fcm_message import Message, SendRequest, Violation, check, parse
from services.sandbox.oauth import OAuth

PREFIX = "/v1/projects/"

STATUS = {
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
    "UNREGISTERED": (404, "NOT_FOUND"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "INTERNAL": (500, "INTERNAL"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
}
"""FCM's error codes: status, and Google's status name beside it."""

PLAIN_STATUS = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}
"""Errors of Google's front door, which carry no FcmError."""

USUAL_REASON = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "SENDER_ID_MISMATCH",
    404: "UNREGISTERED",
    429: "QUOTA_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""What a fault rule with a status and no reason says."""

SPECIAL = {
    "unregistered": ("UNREGISTERED", "Requested entity was not found."),
    "invalid": ("INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"),
    "mismatch": ("SENDER_ID_MISMATCH", "SenderId mismatch"),
}

_PATH = re.compile(r"/v1/projects/([^/:]+)/messages:send").fullmatch
_JSON = ("content-type", "application/json; charset=UTF-8")
_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


class _Refused(Exception):
    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


class Fcm:
    """The judge of `POST /v1/projects/{project}/messages:send`."""

    def __init__(self, oauth: OAuth, clock: Callable[[], float]) -> None:
        self._oauth = oauth
        self._clock = clock
        self._numbers = itertools.count(1)

    def judge(self, request: Request) -> Verdict:
        try:
            send = parse(request.body)
        except Violation as violation:
            return self._verdict(request, None, violation)
        try:
            check(send, len(request.body))
        except Violation as violation:
            return self._verdict(request, send, violation)
        return self._verdict(request, send, None)

    def _verdict(self, request: Request, send: SendRequest | None, violation: Violation | None) -> Verdict:
        message = send.message if send else Message()
        token = message.token or message.fid or message.topic or message.condition or ""
        reason = None
        try:
            reply = self._accept(request, token, violation)
        except _Refused as refused:
            reason, reply = refused.reason, refused.reply
        android = message.android and message.android.notification
        return Verdict(
            provider="fcm",
            token=token,
            reply=reply,
            reason=reason,
            message_id=(message.data or {}).get("automata_message_id"),
            collapse=android.tag if android else None,
            dry_run=send is not None and send.validate_only,
        )

    def _accept(self, request: Request, token: str, violation: Violation | None) -> Reply:
        """The success answer, after the front door's checks, the body's and the token's. Raises `_Refused`."""
        path = _PATH(request.path)
        if path is None or request.method != "POST":
            raise _plain("NOT_FOUND", "The requested URL was not found on this server.")
        grant = self._oauth.grant(request.headers.get("authorization"))
        if grant is None:
            text = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            raise _plain("UNAUTHENTICATED", text)
        if grant.project_id != path[1]:
            text = f"Permission 'cloudmessaging.messages.create' denied on resource '//projects/{path[1][:64]}'"
            raise _plain("PERMISSION_DENIED", text)
        if violation is not None:
            raise _Refused("INVALID_ARGUMENT", _violation_reply(violation))
        for prefix, (code, text) in SPECIAL.items():
            if token.startswith(prefix):
                raise _Refused(code, self.refusal(code, text=text))
        name = f"projects/{path[1]}/messages/0:{int(self._clock() * 1e6)}%{next(self._numbers):016x}"
        return Reply(200, [_JSON], b'{"name":"%b"}' % name.encode())

    def refusal(self, reason: str, status: int | None = None, text: str | None = None) -> Reply:
        """Google's error for one of FCM's codes, of its plain codes, or any other name with a `status`."""
        plain = PLAIN_STATUS.get(reason)
        if plain is not None:
            return _error(status or plain, reason, text or reason, [])
        usual, name = STATUS.get(reason, (500, "UNKNOWN"))
        details = [{"@type": _FCM_ERROR, "errorCode": reason}]
        return _error(status or usual, name, text or reason, details)


def _plain(name: str, text: str) -> _Refused:
    return _Refused(name, _error(PLAIN_STATUS[name], name, text, []))


def _violation_reply(violation: Violation) -> Reply:
    bad_token = violation.fcm and violation.field in ("message.token", "message.fid")
    details: list[dict[str, Any]] = []
    if violation.fcm:
        details.append({"@type": _FCM_ERROR, "errorCode": "INVALID_ARGUMENT"})
    if not bad_token:
        fields = [{"field": violation.field, "description": violation.text}]
        details.append({"@type": _BAD_REQUEST, "fieldViolations": fields})
    return _error(400, "INVALID_ARGUMENT", violation.text, details)


def _error(code: int, name: str, text: str, details: list[dict[str, Any]]) -> Reply:
    error: dict[str, Any] = {"code": code, "message": text, "status": name}
    if details:
        error["details"] = details
    return Reply(code, [_JSON], msgspec.json.encode({"error": error}))
