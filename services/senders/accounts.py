"""What a sender keeps per tenant credential: tokens and connections. Bounded; the longest unused goes first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

LIMIT = 256
"""Accounts at a time in one process. One that went out is made anew when it is needed."""

Account = TypeVar("Account")


class CredentialFault(Exception):
    """The tenant's credential cannot work, whatever is sent with it. `reason` is a code without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Accounts(Generic[Account]):
    """Least recently used cache. What leaves it is dropped, not closed: requests in flight on it end undisturbed."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._accounts: OrderedDict[Hashable, Account] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Account]) -> Account:
        """Whatever `make` raises passes, and nothing is kept."""
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = make()
            if len(self._accounts) > self._limit:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key)
        return account

    def all(self) -> Iterable[Account]:
        return self._accounts.values()
