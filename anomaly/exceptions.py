"""Every error a user of the product can meet.

    AnomalyError                    exit code
    ├── UsageError                  2   a wrong option or argument
    │   └── ConflictError           2   somebody else has said otherwise meanwhile
    ├── SettingsError               2   a wrong or missing setting
    ├── SourceError                 3   the source or the database failed
    │   └── SchemaError             3   the database's schema is not this version's
    ├── DataError                   4   the data were refused
    │   ├── ShapeError              4   two arrays do not belong together
    │   └── ModelError              4   a model failed its checks
    │       └── ModelFormatError    4   another version of the product wrote it
    └── BusyError                   5   the same work is being done elsewhere

A message says what was wrong, where (file, row, column, setting) and what to do next.
"""


class AnomalyError(Exception):
    """The root: caught once, at the command line's edge, and printed without a traceback."""

    exit_code = 2


class UsageError(AnomalyError):
    """An option or argument that cannot be served."""


class ConflictError(UsageError):
    """A change to something that its author has not seen as it stands."""


class SettingsError(AnomalyError):
    """A setting that is missing, misspelt or out of its range."""


class SourceError(AnomalyError):
    """A file, source or database that could not be read or written."""

    exit_code = 3


class SchemaError(SourceError):
    """A database whose schema is older or newer than this version expects."""


class DataError(AnomalyError):
    """Data that cannot be judged."""

    exit_code = 4


class ShapeError(DataError):
    """Two arrays whose shapes do not belong together; names both."""


class ModelError(DataError):
    """A model that failed its checks and must not be used."""


class ModelFormatError(ModelError):
    """A model in the files' format of another version: a run trains a new one where it may."""


class BusyError(AnomalyError):
    """Another process holds the lease on this work."""

    exit_code = 5
