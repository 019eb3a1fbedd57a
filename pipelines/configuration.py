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

if TYPE_CHECKING:
    from anomaly.settings import Settings
    from pipelines.services import Services

DRAFT = ".new"  # of the file as it was read last, whether it was taken or not


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
            self._take(self._text())
        except Exception as error:  # whatever it is, the next SIGHUP must be heard
            known = isinstance(error, AnomalyError)
            why = str(error) if known else f"unexpected {type(error).__name__}: {error}"
            why = why.replace(str(self._draft), str(self._file()))
            self.refused = Refused(self.services.clock(), why)
            log.warning("settings_refused", error=why, exc_info=not known)
            return
        self.refused = None
        log.info("settings_taken", configuration=self.services.configuration)

    def _take(self, text: bytes) -> None:
        """Put the settings of this text in force everywhere, or nowhere.

        Raises: AnomalyError for wrong ones; whatever else those who adopt them raise.
        """
        from pipelines.jobs.check import refuse_mistakes  # it leans on the schedule, which on this

        self._keep(text, suffix=DRAFT)
        settings = load(self._draft)
        refuse_another_database(self.services.settings, settings)
        # Where it listens, and who is let in, was settled when it started.
        settings = settings.model_copy(update={"web": self.services.settings.web})
        services = replace(self.services, settings=settings)
        refuse_mistakes(services)
        before, kept = self.services, self.copy.read_bytes()
        try:
            self._put_in_force(services, text)
        except Exception:
            self._put_in_force(before, kept)
            raise

    def _put_in_force(self, services: Services, text: bytes) -> None:
        logs.configure(services.settings.telemetry)
        for adopt in self.adopted:
            adopt(services)
        self._keep(text)
        self.services = services

    @property
    def _draft(self) -> Path:
        return self.copy.with_suffix(DRAFT)

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
