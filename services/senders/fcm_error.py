"""Reads the error body of Google's API: `{"error": {"status", "message", "details": […]}}` (google.rpc.Status)."""

import msgspec

_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_ADDRESS_FIELDS = frozenset({"message.token", "message.fid"})
_INVALID_REGISTRATION = "not a valid FCM registration token"
"""FCM's words where it names no field: "The registration token is not a valid FCM registration token"."""

_NAME_CHARS = 100
_FIELDS = 5


class FcmFailure(msgspec.Struct, frozen=True):
    code: str = ""
    """FCM's own `errorCode`; empty: a plain Google API error."""
    status: str = ""
    """google.rpc.Code by name."""
    fields: tuple[str, ...] = ()
    blames_address: bool = False


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct):
    type: str = msgspec.field(name="@type", default="")
    error_code: str = msgspec.field(name="errorCode", default="")
    violations: list[_Violation] = msgspec.field(name="fieldViolations", default_factory=list)


class _Error(msgspec.Struct):
    status: str = ""
    message: str = ""
    details: list[_Detail] = []


class _Body(msgspec.Struct):
    error: _Error


_decode = msgspec.json.Decoder(_Body).decode


def read_failure(body: bytes) -> FcmFailure:
    """Empty where the body is nothing of the kind, such as a proxy's page."""
    try:
        error = _decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return FcmFailure()
    code = next((detail.error_code for detail in error.details if detail.type == _FCM_ERROR), "")
    fields = tuple(violation.field for detail in error.details for violation in detail.violations)
    told = bool(code) and not fields and _INVALID_REGISTRATION in error.message
    return FcmFailure(
        code[:_NAME_CHARS],
        error.status[:_NAME_CHARS],
        tuple(name[:_NAME_CHARS] for name in fields[:_FIELDS]),
        told or not _ADDRESS_FIELDS.isdisjoint(fields),
    )
