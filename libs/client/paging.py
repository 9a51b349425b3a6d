"""From one page of a list to the next, whatever the list holds."""

from typing import Any, TypeVar

import msgspec

Q = TypeVar("Q", bound=msgspec.Struct)


def items_of(page: msgspec.Struct) -> list[Any]:
    """The one list of the page."""
    found = [value for name in page.__struct_fields__ if isinstance(value := getattr(page, name), list)]
    if len(found) != 1:
        raise TypeError(f"{type(page).__name__} is no page of a list")
    return found[0]


def following(page: Any, query: Q) -> Q | None:
    """The query of the next page: by cursor where the list has one, else by number. None: that was the last."""
    pagination = page.pagination
    if "cursor" in query.__struct_fields__:
        if pagination.next_cursor is None:
            return None
        return msgspec.structs.replace(query, cursor=pagination.next_cursor)
    if pagination.page >= pagination.total_pages:
        return None
    return msgspec.structs.replace(query, page=pagination.page + 1)
