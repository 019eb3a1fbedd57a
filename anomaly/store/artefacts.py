"""Models' files: a folder a model, written whole or not at all, and verified before they are used.

    FOLDER/VERSION/manifest.json     {"name": "sha256 of the file", ...}
    FOLDER/VERSION/<name>            as the model gave it

The registry keeps the sha256 of the manifest, so a changed file, manifest or folder is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.exceptions import ModelError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a model lies (a name within the folder) and the sha256 of its manifest."""

    address: str
    sha256: str


class Artefacts:
    """The folder of models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, version: str, files: Mapping[str, bytes]) -> Stored:
        """Store a model's files under its version; the same files again change nothing.

        Raises: SourceError if the folder cannot be written.
        """
        manifest = _manifest(files)
        stored = Stored(version, hashlib.sha256(manifest).hexdigest())
        final = self.folder / version
        try:
            if self._holds(stored):
                return stored
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=self.folder))
            try:
                for name, content in {**files, MANIFEST: manifest}.items():
                    _write(draft / name, content)
                _sync(draft)
                # A folder of this version that fails its check is in the way and of no use.
                shutil.rmtree(final, ignore_errors=True)
                draft.rename(final)
                _sync(self.folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            raise SourceError(
                f"{final}: the model cannot be written ({error.strerror}). "
                "Free space or set [run] artefacts to a folder that can be written."
            ) from error
        return stored

    def read(self, address: str, sha256: str | None = None) -> dict[str, bytes]:
        """The files of a model, each checked against its sha256.

        Args: sha256: of the manifest, as the registry keeps it; None takes the manifest's word.
        Raises: ModelError if a file is missing or differs from what was stored.
        """
        folder = self.folder / address
        if not _is_plain(address):
            raise self._refused(folder, "lies outside the folder of models")
        manifest = self._read(folder / MANIFEST)
        if sha256 is not None and hashlib.sha256(manifest).hexdigest() != sha256:
            raise self._refused(folder / MANIFEST, "is not the one that was registered")
        files = {}
        for name, expected in self._sums(folder / MANIFEST, manifest).items():
            files[name] = self._read(folder / name)
            if hashlib.sha256(files[name]).hexdigest() != expected:
                raise self._refused(folder / name, "differs from its sha256")
        return files

    def remove(self, address: str) -> None:
        """Delete a model's files; those of a model that is not there are no error."""
        shutil.rmtree(self.folder / address, ignore_errors=True)

    def _holds(self, stored: Stored) -> bool:
        try:
            self.read(stored.address, stored.sha256)
        except ModelError:
            return False
        return True

    def _sums(self, path: Path, manifest: bytes) -> dict[str, str]:
        try:
            sums = json.loads(manifest)
        except ValueError as error:
            raise self._refused(path, "is no manifest") from error
        if not isinstance(sums, dict) or not all(map(_is_plain, sums)):
            raise self._refused(path, "names files outside its folder")
        return {str(name): str(sha256) for name, sha256 in sums.items()}

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._refused(path, f"cannot be read ({error.strerror})") from error

    @staticmethod
    def _refused(path: Path, why: str) -> ModelError:
        return ModelError(
            f"{path}: the model's file {why}; the model is not used. "
            "Restore it from a backup, or take the model before it: anomaly models rollback"
        )


def _is_plain(name: str) -> bool:
    """Whether a name stays within the folder it is looked up in."""
    return name == Path(name).name and name not in {"", ".", ".."}


def _manifest(files: Mapping[str, bytes]) -> bytes:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    return json.dumps(sums, indent=1).encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the folder's entries last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
