"""The door: every name of a user passes it on its way in, from whatever source.

With [privacy] pseudonymise a name goes in as its pseudonym and is kept sealed beside it; rows of
erased users that were observed before their erasure stay outside.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from anomaly.exceptions import SettingsError
from anomaly.rows import TIME_TYPE
from anomaly.secrecy import is_pseudonym

if TYPE_CHECKING:
    from anomaly.secrecy import Secret
    from anomaly.sources.batch import Batch
    from pipelines.services import Services

ALWAYS = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)  # rows from then on may come in: all of them
WITHHELD = "withheld"


@dataclass(slots=True)
class Door:
    """secret: None where nothing is hidden and nobody was erased: then everything passes as it is.

    erased: until when whose rows stay outside, by keyed hash. came: the names of those who passed,
    by pseudonym.
    """

    secret: Secret | None
    pseudonymise: bool
    erased: Mapping[str, dt.datetime]
    came: dict[str, str] = field(default_factory=dict)

    def user(self, name: str) -> str:
        """What a user is called inside."""
        if not self.pseudonymise:
            return name
        assert self.secret is not None
        return self.secret.pseudonym(name)

    def let_in(self, name: str) -> str:
        """As `user`, of one who comes in."""
        user = self.user(name)
        if self.pseudonymise:
            self.came[user] = name
        return user

    def kept_out_until(self, user_id: str) -> dt.datetime:
        """Rows of a user observed before this instant stay outside."""
        if self.secret is None or not self.erased:
            return ALWAYS
        return self.erased.get(self.secret.person(user_id), ALWAYS)

    def batch(self, batch: Batch) -> Batch:
        """A batch as it may come in."""
        if self.secret is None or (not self.pseudonymise and not self.erased):
            return batch
        names = batch.table["user_id"].combine_chunks().dictionary_encode()
        distinct = names.dictionary.to_pylist()
        users = [self.user(name) for name in distinct]
        until = pa.array([self.kept_out_until(user) for user in users], TIME_TYPE)
        inside = pc.greater_equal(batch.table["observed_at"], until.take(names.indices))
        column = pa.array(users, pa.string()).take(names.indices)
        place = batch.table.schema.get_field_index("user_id")
        table = batch.table.set_column(place, "user_id", column).filter(inside)
        rejects = batch.rejects
        if self.pseudonymise:
            here = set(pc.unique(table["user_id"]).to_pylist())
            for user, name in zip(users, distinct, strict=True):
                if user in here:
                    self.came[user] = name
            rejects = [replace(reject, text=WITHHELD) for reject in rejects]
        out = len(batch.table) - len(table)
        return replace(batch, table=table, rejects=rejects, erased=batch.erased + out)


def open_door(services: Services) -> Door:
    """The door of this database.

    Raises: SettingsError where names would come to stand beside pseudonyms.
    """
    store = services.store
    pseudonymise = services.settings.privacy.pseudonymise
    refuse_mixture(services, pseudonymise=pseudonymise)
    erased = store.erasing.erased()
    secret = services.audit.secret() if pseudonymise or erased else None
    return Door(secret, pseudonymise, erased)


def keep_names(services: Services, door: Door) -> None:
    """Keep the names of those who came, sealed; before their rows, so that none lacks its name."""
    if not door.came or door.secret is None:
        return
    known, names = services.store.pseudonyms.known(), door.secret.names()
    new = {user: name for user, name in door.came.items() if user not in known}
    services.store.pseudonyms.write(
        {user: names.encrypt(name.encode()) for user, name in new.items()}
    )


def refuse_mixture(services: Services, *, pseudonymise: bool) -> None:
    """Refuse to let one person be two users.

    Raises: SettingsError.
    """
    store = services.store
    if not pseudonymise and store.pseudonyms.any():
        raise SettingsError(
            "[privacy] pseudonymise is false, but this database holds pseudonyms; names would stand "
            "beside them. Set it to true, or import into a new database."
        )
    if not pseudonymise:
        return
    named = [user for user in store.observations.users() if not is_pseudonym(user)]
    if named:
        raise SettingsError(
            f"[privacy] pseudonymise is true, but this database holds {len(named)} users under "
            "their names. Import into a new database, or set it to false."
        )
