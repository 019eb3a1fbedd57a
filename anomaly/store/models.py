"""The registry of models: which there are, which one scores, which one did before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import ModelError
from anomaly.fallback import PROMOTED
from anomaly.store.database import row_values
from anomaly.store.entities import ModelRow
from anomaly.store.tables import models

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database


class Models:
    """Models by version. At most one is champion."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(
        self,
        *,
        version: str,
        address: str,
        sha256: str,
        trained_from: dt.datetime,
        trained_to: dt.datetime,
        validation_loss: float | None,
        twin_loss: float | None,
        calibration_error: float | None,
        users: int,
        metrics: Sequence[str],
        configuration: str,
        now: dt.datetime,
        state: str = "candidate",
        note: str | None = None,
        cell: str | None = None,
        families: Mapping[str, str] | None = None,
        twin: str | None = None,
        trial: Mapping[str, float | None] | None = None,
    ) -> ModelRow:
        """Enter a model; one that is entered already stays as it is.

        Figures that are not finite are entered as unknown.
        Raises: ModelError if the version is known with another sha256.
        """
        values = {
            "version": version,
            "address": address,
            "sha256": sha256,
            "trained_from": trained_from,
            "trained_to": trained_to,
            "validation_loss": _figure(validation_loss),
            "twin_loss": _figure(twin_loss),
            "calibration_error": _figure(calibration_error),
            "users": users,
            "metrics": json.dumps(list(metrics), ensure_ascii=False),
            "configuration": configuration,
            "state": state,
            "registered_at": now,
            "note": note,
            "cell": cell,
            "families": _packed(families),
            "twin": twin,
            "trial": _packed(trial),
        }
        entered = self._database.insert(models).values(values).on_conflict_do_nothing()

        def work(connection: Connection) -> ModelRow:
            connection.execute(entered)
            return _get(connection, version)

        row = self._database.write(work)
        if row.sha256 != sha256:
            raise ModelError(
                f"model {version}: registered with sha256 {row.sha256[:12]}, now it is "
                f"{sha256[:12]}. A version is one set of files; train again to get another."
            )
        return row

    def champion(
        self, before: dt.datetime | None = None, configuration: str | None = None
    ) -> ModelRow | None:
        """The model that scores.

        Args: before: the one for a month that begins then: the latest trained on earlier data
            only, a former champion too, so that an old month finds the model of its time.
            configuration: only models trained under these settings.
        """
        query = sa.select(models).order_by(
            models.c.trained_to.desc(), models.c.promoted_at.desc(), models.c.version
        )
        if before is None:
            query = query.where(models.c.state == "champion")
        else:
            query = query.where(models.c.state.in_(PROMOTED), models.c.trained_to <= before)
        if configuration is not None:
            query = query.where(models.c.configuration == configuration)
        row = self._database.read(lambda c: c.execute(query.limit(1)).one_or_none())
        return None if row is None else _model(row)

    def get(self, version: str) -> ModelRow:
        """A model by its version.

        Raises: ModelError if there is none.
        """
        return self._database.read(lambda c: _get(c, version))

    def list(self) -> list[ModelRow]:
        """All models, the latest trained first."""
        query = sa.select(models).order_by(models.c.trained_to.desc(), models.c.version)
        return [_model(row) for row in self._database.read(lambda c: c.execute(query).all())]

    def promote(self, version: str, now: dt.datetime) -> ModelRow:
        """Make a model champion; the one before it is retired.

        Raises: ModelError if it is unknown or was refused.
        """

        def work(connection: Connection) -> ModelRow:
            row = _get(connection, version)
            if row.state == "refused":
                raise ModelError(
                    f"model {version} was refused ({row.note}) and cannot score. Choose another: "
                    "anomaly models list"
                )
            if row.state == "champion":
                return row
            return _crown(connection, version, now)

        return self._database.write(work)

    def rollback(self, now: dt.datetime) -> ModelRow:
        """Take the champion back; the one before it scores again.

        Raises: ModelError if there was none.
        """
        previous = (
            sa.select(models.c.version)
            .where(models.c.state == "retired")
            .order_by(models.c.promoted_at.desc(), models.c.version)
            .limit(1)
        )

        def work(connection: Connection) -> ModelRow:
            version = connection.execute(previous).scalar_one_or_none()
            if version is None:
                raise ModelError(
                    "models: no champion came before this one. Promote a model by its version: "
                    "anomaly models promote VERSION"
                )
            _set_champion(connection, state="withdrawn")
            return _crown(connection, version, now)

        return self._database.write(work)

    def refuse(self, version: str, note: str) -> ModelRow:
        """Keep a model from scoring, with the reason.

        Raises: ModelError if it is unknown.
        """

        def work(connection: Connection) -> ModelRow:
            refused = sa.update(models).where(models.c.version == version)
            connection.execute(refused.values(state="refused", note=note))
            return _get(connection, version)

        return self._database.write(work)


def _crown(connection: Connection, version: str, now: dt.datetime) -> ModelRow:
    _set_champion(connection, state="retired")
    crowned = sa.update(models).where(models.c.version == version)
    connection.execute(crowned.values(state="champion", promoted_at=now))
    return _get(connection, version)


def _set_champion(connection: Connection, state: str) -> None:
    connection.execute(sa.update(models).where(models.c.state == "champion").values(state=state))


def _get(connection: Connection, version: str) -> ModelRow:
    query = sa.select(models).where(models.c.version == version)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise ModelError(f"model {version!r} is not registered. See: anomaly models list")
    return _model(row)


def _figure(value: float | None) -> float | None:
    """A number that a table can hold: NaN and infinity say nothing that None does not."""
    return None if value is None or not -1e300 < value < 1e300 else float(value)


def _packed(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(dict(values), ensure_ascii=False)


def _model(row: sa.Row[Any]) -> ModelRow:
    values = row_values(row)
    read = {name: values[name] and json.loads(values[name]) for name in ("families", "trial")}
    return ModelRow(**{**values, **read, "metrics": tuple(json.loads(values["metrics"]))})
