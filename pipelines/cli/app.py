"""Puts the commands together, and turns what they raise into messages and exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import structlog
import typer
from typer._click.core import Command, Context, Group, Parameter
from typer._click.exceptions import Abort, ClickException
from typer.core import TyperOption
from typer.main import get_command

import anomaly
from anomaly.exceptions import AnomalyError
from pipelines.cli import data, database, demo, detect, flags, models, running, serving, upkeep
from pipelines.cli.shell import Shell

INTERRUPTED = 130  # what shells expect after Ctrl-C


def build() -> Command:
    """The whole command line, --config on every command."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=anomaly.__doc__,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def start(
        context: typer.Context,
        version: bool = typer.Option(False, "--version", is_eager=True, help="Say the version."),
    ) -> None:
        context.obj = context.obj or Shell()
        if version:
            typer.echo(anomaly.__version__)
            raise typer.Exit

    for module in (demo, data, running, detect, flags, models, upkeep, serving, database):
        module.register(app)
    command = get_command(app)
    _add_config(command)
    return command


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns: its exit code. Nothing it may raise leaves this function but what ends the process.
    """
    shell = Shell()
    try:
        code = build().main(arguments, prog_name="anomaly", standalone_mode=False, obj=shell)
    except AnomalyError as error:
        shell.note(f"error: {error}")
        return error.exit_code
    except ClickException as error:
        error.show()
        return error.exit_code
    except (Abort, KeyboardInterrupt):
        shell.note("interrupted; the same command goes on where it stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; a second failure at exit would say nothing more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  (the one place that catches everything)
        structlog.get_logger().debug("unexpected_error", exc_info=True)
        shell.note(
            f"error: unexpected {type(error).__name__}: {error}. "
            "See all of it with ANOMALY_TELEMETRY__LOG_LEVEL=debug, and please report it."
        )
        return 1
    return code if isinstance(code, int) else 0


def _add_config(command: Command) -> None:
    """Give every command, and `anomaly` itself, the option --config."""
    command.params.append(
        TyperOption(
            param_decls=["--config"],
            type=Path,
            expose_value=False,
            callback=_take_config,
            help="Settings file. Default: ANOMALY_CONFIG, else ./anomaly.toml.",
        )
    )
    for inner in command.commands.values() if isinstance(command, Group) else ():
        _add_config(inner)


def _take_config(context: Context, parameter: Parameter, value: Path | None) -> None:
    del parameter
    shell = context.find_root().obj
    if value is not None:
        shell.config = value
