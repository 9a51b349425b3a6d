"""What a caller of the SDK may have to handle."""

from typing import Any


class ApiError(Exception):
    """The platform refused. `code` is one of REF-001 §8; `details.fields` names each bad field."""

    def __init__(self, status: int, code: str, message: str, details: dict[str, Any], request_id: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id


class Unreachable(Exception):
    """No answer, however often it was tried: whether the last try took effect is not known."""
