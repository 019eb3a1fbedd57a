"""Puts the commands together, and turns what they raise into messages and exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import structlog
import typer
from typer.main import get_command

import anomaly
from anomaly.exceptions import AnomalyError, UsageError
from pipelines.cli import (
    data,
    database,
    demo,
    detect,
    events,
    feedback,
    flags,
    models,
    notify,
    privacy,
    running,
    serving,
    tokens,
    trials,
    upkeep,
)
from pipelines.cli.shell import Shell
from pipelines.stopping import EXIT_CODE, Stopped, stoppable

INTERRUPTED = 130  # what shells expect after Ctrl-C
CONFIG = "--config"
ABOUT = "Learns what is normal for each user, scores what happened, and says what does not belong."


def run(arguments: list[str]) -> int:
    """Run one command line and say its exit code; every error ends here, as a message."""
    shell = Shell()
    try:
        shell.config, arguments = take_config(arguments)
        with stoppable():
            build().main(arguments, prog_name="anomaly", obj=shell)
    except SystemExit as end:
        return _code(end.code)
    except AnomalyError as error:
        shell.note(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        shell.note("interrupted; the same command goes on where it stopped")
        return INTERRUPTED
    except Stopped:
        shell.note("stopped; the same command goes on where it stopped")
        return EXIT_CODE
    except BrokenPipeError:
        # The reader of our output has gone; a second failure at exit would say nothing more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (the one place that catches everything)
        structlog.get_logger().debug("unexpected_error", exc_info=True)
        shell.note(
            f"error: unexpected {type(error).__name__}: {error}. See all of it with "
            "ANOMALY_TELEMETRY__LOG_LEVEL=debug, and please report it."
        )
        return 1
    return 0


def build() -> Any:
    """All commands as one."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=f"{ABOUT} {CONFIG} FILE goes with every command.",
        rich_markup_mode=None,  # brackets name sections of the settings
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def start(
        config: Path | None = typer.Option(  # taken off before; here for --help
            None, CONFIG, help="Settings. Default: ANOMALY_CONFIG, else ./anomaly.toml."
        ),
        version: bool = typer.Option(False, "--version", is_eager=True, callback=_say_version),
    ) -> None:
        del config, version

    for module in (
        demo,
        data,
        running,
        detect,
        events,
        flags,
        feedback,
        models,
        notify,
        trials,
        upkeep,
        privacy,
        tokens,
        serving,
        database,
    ):
        module.register(app)
    return get_command(app)


def take_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Take --config off the arguments, wherever it stands before a `--`.

    Raises: UsageError if no file follows it.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for place, argument in enumerate(arguments[:end]):
        if argument.startswith(f"{CONFIG}="):
            path = argument.removeprefix(f"{CONFIG}=")
            return Path(path), arguments[:place] + arguments[place + 1 :]
        if argument == CONFIG:
            if place + 1 >= end:
                raise UsageError(f"{CONFIG} names no file. Write: {CONFIG} anomaly.toml")
            return Path(arguments[place + 1]), arguments[:place] + arguments[place + 2 :]
    return None, arguments


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(anomaly.__version__)
        raise typer.Exit


def _code(code: object) -> int:
    return code if isinstance(code, int) else 0 if code is None else 1
