"""What every command needs: where to write, and the settings and services, opened when asked for."""

from __future__ import annotations

import getpass
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from pipelines.cli.progress import for_console

if TYPE_CHECKING:
    from anomaly.settings import Settings
    from pipelines.services import Services

PIPE_WIDTH = 160  # columns of a table that nobody looks at on a terminal


class Shell:
    """One call of the command line. config: the file named by --config."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    @cached_property
    def settings(self) -> Settings:
        """The settings; logging is set up as they say."""
        from anomaly.settings import load
        from anomaly.telemetry import logs

        settings = load(self.config)
        logs.configure(settings.telemetry)
        return settings

    def services(self, settings: Settings | None = None) -> Services:
        """The services that the settings name."""
        from pipelines.services import open_services

        return open_services(settings or self.settings, for_console(self.err))

    @property
    def person(self) -> str:
        """Who calls, as the author of what is said: the account of this machine, or its number alone."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user need not be among its machine's accounts
            return f"uid {os.getuid()}"

    @property
    def actor(self) -> str:
        """Who calls, for the audit."""
        return f"account:{self.person}"

    def say(self, text: str) -> None:
        """Write a line for a reader; markup in it is taken as text."""
        self.out.print(text, markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Write a line beside the output proper."""
        self.err.print(text, markup=False, highlight=False, soft_wrap=True)


def shell_of(context: typer.Context) -> Shell:
    """The shell of this call."""
    shell = context.find_root().obj
    assert isinstance(shell, Shell)
    return shell


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width)
