"""Where observations come from: files, folders and other people's databases, never written to."""

from anomaly.sources.batch import Batch, Reject, Tally
from anomaly.sources.cleaning import Checks
from anomaly.sources.files import read_file
from anomaly.sources.layout import parse_columns

__all__ = ["Batch", "Checks", "Reject", "Tally", "parse_columns", "read_file"]
