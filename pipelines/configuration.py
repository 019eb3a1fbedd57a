"""The settings in force: read anew on SIGHUP, and kept as they are where the new ones are wrong.

Jobs run in processes of their own. They get the settings in force, not the file as somebody is
editing it: a copy, made when the file was taken.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import AnomalyError, SettingsError
from anomaly.settings import DEFAULT_CONFIG, config_file, load
from anomaly.telemetry import logs
from pipelines.services import refuse_unserved

if TYPE_CHECKING:
    from anomaly.settings import Settings
    from pipelines.services import Services


@dataclass(frozen=True, slots=True)
class Refused:
    """Settings that were not taken: when, and what is wrong with them."""

    when: dt.datetime
    why: str


class Configuration:
    """The settings in force. copy: the file as it was when they were taken."""

    def __init__(self, services: Services, path: Path | None, copy: Path) -> None:
        self._path = path
        self.copy = copy
        self.services = services
        self.refused: Refused | None = None
        self.adopted: list[Callable[[Services], None]] = []
        self._keep(self._text())

    def reload(self) -> None:
        """Take the file's settings, unless they are wrong: then go on with the old and say so."""
        log = structlog.get_logger()
        try:
            text = self._text()
            self._keep(text, suffix=".new")
            settings = load(self.copy.with_suffix(".new"))
            refuse_unserved(settings)
            refuse_another_database(self.services.settings, settings)
        except AnomalyError as error:
            why = str(error).replace(str(self.copy.with_suffix(".new")), str(self._file()))
            self.refused = Refused(self.services.clock(), why)
            log.warning("settings_refused", error=why)
            return
        self._keep(text)
        # Where it listens, and who is let in, was settled when it started.
        settings = settings.model_copy(update={"web": self.services.settings.web})
        self.services = replace(self.services, settings=settings)
        self.refused = None
        logs.configure(settings.telemetry)
        for adopt in self.adopted:
            adopt(self.services)
        log.info("settings_taken", configuration=self.services.configuration)

    def _file(self) -> Path:
        return config_file(self._path, os.environ) or Path(DEFAULT_CONFIG)

    def _text(self) -> bytes:
        file = config_file(self._path, os.environ)
        try:
            return b"" if file is None else file.read_bytes()
        except OSError as error:
            raise SettingsError(f"{file}: cannot be read ({error.strerror}).") from error

    def _keep(self, text: bytes, suffix: str = ".toml") -> None:
        """Write the copy whole: a job may be starting."""
        draft = self.copy.with_suffix(".draft")
        draft.write_bytes(text)
        draft.replace(self.copy.with_suffix(suffix))


def refuse_another_database(old: Settings, new: Settings) -> None:
    """Refuse what only a restart can change.

    Raises: SettingsError.
    """
    if old.database != new.database:
        raise SettingsError("[database]: another database needs a restart. The old one is kept.")


@contextmanager
def configured(services: Services, path: Path | None) -> Iterator[Configuration]:
    """The settings in force, read anew on each SIGHUP while the context lasts."""
    asked, ended = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="anomaly-") as folder:
        configuration = Configuration(services, path, Path(folder) / DEFAULT_CONFIG)

        def wait() -> None:
            while asked.wait() and not ended.is_set():
                asked.clear()
                configuration.reload()

        before = signal.signal(signal.SIGHUP, lambda *_: asked.set())
        threading.Thread(target=wait, name="settings", daemon=True).start()
        try:
            yield configuration
        finally:
            signal.signal(signal.SIGHUP, before)
            ended.set()
            asked.set()
