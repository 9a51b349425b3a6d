"""Where a delivery is sent from: the recipient's country says which region's senders take it."""

from collections.abc import Mapping


class Regions:
    """`default` for every country that is not in `by_country`, and for recipients whose country nobody knows."""

    def __init__(self, default: str, by_country: Mapping[str, str]) -> None:
        self.default = default
        self._by_country = dict(by_country)

    def of(self, country: str | None) -> str:
        return self.default if country is None else self._by_country.get(country, self.default)

    @property
    def all(self) -> list[str]:
        """Each once, in order."""
        return sorted({self.default, *self._by_country.values()})
