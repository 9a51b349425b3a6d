"""Whose credentials the sandbox knows: the tenants file, re-read when it changes.

`{"apns":[{"team_id","key_id","public_key_pem","topics":[…]}],
  "fcm":[{"project_id","client_email","public_key_pem"}]}`
"""

from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct


class ApnsTenant(Struct, frozen=True, forbid_unknown_fields=True):
    """One signing key of a team, and the bundle ids the team may send to."""

    team_id: str
    key_id: str
    public_key_pem: str
    topics: list[str]


class FcmTenant(Struct, frozen=True, forbid_unknown_fields=True):
    """One service account of a project."""

    project_id: str
    client_email: str
    public_key_pem: str


class TenantsFile(Struct, frozen=True):
    apns: list[ApnsTenant] = []
    fcm: list[FcmTenant] = []


class TenantsError(Exception):
    """The tenants file cannot be used; the text says why and holds no key."""


class Tenants:
    """Look-ups by what a credential claims. `generation` rises with every change, so that caches can be dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self.generation = 0
        self._apns: dict[tuple[str, str], Any] = {}
        self._topics: dict[str, frozenset[str]] = {}
        self._fcm: dict[str, tuple[str, Any]] = {}

    def apns_key(self, team_id: str, key_id: str) -> Any | None:
        """The public key, or None when the pair is unknown."""
        return self._apns.get((team_id, key_id))

    def topics(self, team_id: str) -> frozenset[str]:
        return self._topics.get(team_id, frozenset())

    def service_account(self, client_email: str) -> tuple[str, Any] | None:
        """(project id, public key), or None when the account is unknown."""
        return self._fcm.get(client_email)

    def refresh(self) -> bool:
        """Read the file if it changed since the last look. Raises `TenantsError`; what was known then stays."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return False  # It may come later: tenants can be added live.
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._take(self._read())
        return True

    def _read(self) -> TenantsFile:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=TenantsFile)
        except (OSError, msgspec.MsgspecError) as error:
            raise TenantsError(f"tenants file: {error}") from None

    def _take(self, file: TenantsFile) -> None:
        topics: dict[str, set[str]] = {}
        for team in file.apns:
            topics.setdefault(team.team_id, set()).update(team.topics)
        try:
            apns = {(t.team_id, t.key_id): load_pem_public_key(t.public_key_pem.encode()) for t in file.apns}
            fcm = {t.client_email: (t.project_id, load_pem_public_key(t.public_key_pem.encode())) for t in file.fcm}
        except ValueError:
            raise TenantsError("tenants file: a public_key_pem is not a PEM public key") from None
        self._apns, self._fcm = apns, fcm
        self._topics = {team: frozenset(names) for team, names in topics.items()}
        self.generation += 1
