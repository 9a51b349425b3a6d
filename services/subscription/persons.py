"""Users found, or made under the external id given, and held: nobody erases them until the transaction ends."""

from collections.abc import Iterable, Mapping

from libs import errors
from libs.ids import is_id, new_id
from libs.pg import Connection
from libs.seal import KeyRing
from services.subscription import queries_users
from services.subscription.queries import UserName
from services.subscription.queries_users import NewPerson, Person

_ROUNDS = 4
"""Each loses to somebody else at most once: who made the same user, or erased it, between two statements."""


def asked(names: Iterable[UserName]) -> dict[UserName, str | None]:
    """Each name with itself where it may be our id."""
    return {name: name.name if is_id(name.name) else None for name in names}


async def find(c: Connection, application_id: str, name: str) -> Person:
    """By our id or the application's external id. Raises `ResourceNotFound`, for those erased too."""
    wanted = UserName(application_id.lower(), name)
    if is_id(application_id) and "\0" not in name:
        found = (await queries_users.find_persons(c, asked([wanted]))).get(wanted)
        if found is not None:
            return found
    raise errors.ResourceNotFound(id=name[:64])


async def find_or_make(c: Connection, ring: KeyRing, wanted: Mapping[UserName, str | None]) -> dict[UserName, Person]:
    """`wanted`: each name with the id for the user if one is made, or None.

    The first thing that a transaction locks (`queries_users`). Raises `ServiceUnavailable` where others keep coming
    between.
    """
    found: dict[UserName, Person] = {}
    made: set[str] = set()
    missing = dict(wanted)
    for _ in range(_ROUNDS):
        if not missing:
            return found
        persons = await queries_users.find_persons(c, asked(missing))
        there = await queries_users.hold_persons(c, persons.values())
        for name, person in persons.items():
            if person.id in there:
                found[name] = person._replace(created=person.id in made)
        missing = {name: given for name, given in missing.items() if name not in found}
        if missing:
            made |= await queries_users.insert_persons(c, [_new(ring, name, given) for name, given in missing.items()])
            missing = dict.fromkeys(missing)  # an id that is given is tried once: who had it may have been erased
    raise errors.ServiceUnavailable(service="subscription", retry_after=1)


def _new(ring: KeyRing, name: UserName, given: str | None) -> NewPerson:
    key, wrapped = ring.new_key()
    return NewPerson(given or new_id(), name.application_id, name.name, key.key_id.hex(), wrapped)
