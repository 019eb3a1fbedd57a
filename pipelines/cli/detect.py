"""anomaly detect: a file in, flags and scores out, no database."""

from __future__ import annotations

from pathlib import Path

import typer

from pipelines.cli import output
from pipelines.cli.arguments import instant_of
from pipelines.cli.shell import shell_of

SHOWN_FLAGS = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(detect)


def detect(
    context: typer.Context,
    file: Path = typer.Argument(help="CSV or Parquet, or a folder of Parquet files."),
    train_until: str | None = typer.Option(
        None, help="Learn before, score from then on. Default: the last calendar month is scored."
    ),
    flags_out: Path | None = typer.Option(None, help="Flags, as CSV, JSON or Parquet by suffix."),
    scores_out: Path | None = typer.Option(None, help="A score for each step of each user."),
    freq: str | None = typer.Option(None, help="Length of a step: 5min, 1h, 1D. Default: found."),
    seed: int | None = typer.Option(None, min=0, help="Everything random follows from it."),
    save_model: Path | None = typer.Option(None, help="Keep what was learnt in this folder."),
    model: Path | None = typer.Option(None, help="Score with a model kept before; learn nothing."),
    columns: str | None = typer.Option(
        None, help="user_id=…,metric=…,observed_at=…,value=… where the file's names differ."
    ),
) -> None:
    """Learn from the first part of FILE and score the rest."""
    from anomaly.sources.layout import parse_columns
    from pipelines.cli.progress import for_console
    from pipelines.jobs.detect import Request, detect_file

    shell = shell_of(context)
    for path in (flags_out, scores_out):
        if path is not None:
            output.format_of(path)
    settings = shell.settings
    request = Request(
        file,
        parse_columns(columns or ""),
        instant_of("--train-until", train_until, settings.grid.timezone),
        freq,
        seed,
        model,
        save_model,
    )
    found = detect_file(request, settings, for_console(shell.err))
    if flags_out is not None:
        output.write(found.flags, output.format_of(flags_out), flags_out)
    if scores_out is not None:
        output.write(found.scores, output.format_of(scores_out), scores_out)
    output.show_flag_table(shell, f"{len(found.flags)} flags", found.flags, SHOWN_FLAGS)
    rejected = ", ".join(f"{reason}: {count}" for reason, count in found.rejected.items())
    shell.say(
        f"{file.name}: {found.rows} rows read"
        + (f", set aside {rejected}" if rejected else "")
        + f"; {len(found.flags)} flags"
        + output.passed_over(found.passed)
    )
