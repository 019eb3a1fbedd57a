"""anomaly demo: the whole story on made data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from anomaly.wording import score
from pipelines.cli import output
from pipelines.cli.shell import Shell, shell_of

if TYPE_CHECKING:
    from anomaly.simulation import Judgement

SHOWN_FLAGS = 25


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    context: typer.Context,
    no_serve: bool = typer.Option(False, "--no-serve", help="End instead of serving the page."),
    folder: Path = typer.Option(Path("demo"), "--folder", help="Where its files and database go."),
    users: int = typer.Option(240, "--users", min=1, help="People and machines of the company."),
    months: int = typer.Option(4, "--months", min=2, help="The last one is scored."),
    seed: int | None = typer.Option(None, "--seed", min=0, help="Another seed, another company."),
    port: int | None = typer.Option(None, "--port", min=0, max=65535, help="Of the page."),
) -> None:
    """Made months of behaviour with planted incidents: import, train, score, flags, and the page."""
    from anomaly.settings import with_values
    from pipelines.cli.progress import for_console
    from pipelines.jobs.demo import CONFIG, run_demo

    shell = shell_of(context)
    settings = shell.settings
    if seed is not None:
        settings = with_values(settings, "--seed", "model", seed=seed)
    if port is not None:
        settings = with_values(settings, "--port", "web", port=port)
    progress = for_console(shell.err)
    story = run_demo(folder, users, months, settings, progress, shell.services)
    flags = story.outcome.flags
    title = f"{len(flags)} flags of {story.outcome.month}"
    if len(flags) > SHOWN_FLAGS:
        title += f", the highest {SHOWN_FLAGS}"
    output.show_flags(shell, title, flags[:SHOWN_FLAGS])
    tell(shell, story.judgement)
    config = folder / CONFIG
    shell.say(f"Look on: anomaly --config {config} users list --month {story.outcome.month}")
    if not no_serve:
        from pipelines.serve import serve

        shell.say(f"The page is as on {story.services.clock():%Y-%m-%d}, without a schedule.")
        serve(story.services, config, shell.note, schedules=False)


def tell(shell: Shell, judgement: Judgement) -> None:
    """Which planted incidents were found, and what was flagged besides."""
    rows = [
        (
            incident.kind,
            incident.user_id,
            f"{incident.start:%Y-%m-%d %H:%M}",
            f"{incident.end:%Y-%m-%d %H:%M}",
            incident.metrics,
            f"found, score {score(cast('float', incident.flag_score))}"
            if incident.found
            else "missed",
        )
        for incident in judgement.incidents.sort_values(
            ["found", "start"], ascending=[False, True]
        ).itertuples()
    ]
    columns = ("planted", "user", "start", "end", "metrics", "outcome")
    output.show(
        shell, f"planted incidents: {judgement.found} of {judgement.planted} found", columns, rows
    )
    shell.say(
        f"{judgement.found} of {judgement.planted} planted incidents found; "
        f"{judgement.false_flags} of {judgement.flags} flags are about something else"
    )
