"""The command line `anomaly`."""

import sys


def main() -> None:
    """Run the command that the arguments name and end with its exit code."""
    from pipelines.cli.app import run

    sys.exit(run(sys.argv[1:]))
