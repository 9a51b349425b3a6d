"""The one error tree. Errors know no HTTP: `services/ingest/errors.py` gives each code its status and its text."""

from typing import Any, ClassVar


class SignalError(Exception):
    """Something the caller can be told: a stable `code` and `details` without secrets."""

    code: ClassVar[str] = "internal_server_error"

    def __init__(self, **details: Any) -> None:
        super().__init__(self.code)
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.details}" if self.details else self.code


class InternalError(SignalError):
    """What is unknown; its details never leave the service."""


class InvalidRequest(SignalError):
    """Malformed body, or a required field is missing."""

    code = "invalid_request"


class ValidationFailed(SignalError):
    """Well-formed, but wrong values; `fields` names each one."""

    code = "validation_error"


class AuthenticationFailed(SignalError):
    code = "authentication_failed"


class PermissionDenied(SignalError):
    code = "permission_denied"


class ResourceNotFound(SignalError):
    code = "resource_not_found"


class RateLimitExceeded(SignalError):
    code = "rate_limit_exceeded"


class MethodNotAllowed(SignalError):
    code = "method_not_allowed"


class UnsupportedMediaType(SignalError):
    code = "unsupported_media_type"


class BodyTooLarge(SignalError):
    code = "payload_too_large"


class ServiceUnavailable(SignalError):
    """A dependency is down, slow or full. `retry_after` is in seconds."""

    code = "service_unavailable"


class InvalidToken(SignalError):
    code = "invalid_token"


class InvalidSubscriptionType(SignalError):
    code = "invalid_subscription_type"


class DuplicateSubscription(SignalError):
    code = "duplicate_subscription"


class SubscriptionDisabled(SignalError):
    code = "subscription_disabled"


class MessageTooLarge(SignalError):
    code = "message_too_large"


class InvalidMessageContent(SignalError):
    code = "invalid_message_content"


class MessageAlreadyProcessed(SignalError):
    code = "message_already_processed"


class IdempotencyKeyReused(SignalError):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_key_reused"


class TemplateNotFound(SignalError):
    code = "template_not_found"


class InvalidTemplateVariables(SignalError):
    code = "invalid_template_variables"


class MissingRequiredVariable(SignalError):
    code = "missing_required_variable"


class TemplateInactive(SignalError):
    code = "template_inactive"


def _tree(root: type[SignalError]) -> dict[str, type[SignalError]]:
    found = {root.code: root} if root is not SignalError else {}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[SignalError]] = _tree(SignalError)


def from_code(code: str, details: dict[str, Any]) -> SignalError:
    """The error that a peer named by its code; an unknown code is an internal error."""
    return BY_CODE.get(code, InternalError)(**details)
