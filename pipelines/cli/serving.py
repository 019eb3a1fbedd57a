"""anomaly serve and schedule."""

from __future__ import annotations

import typer

from pipelines.cli.arguments import instant_of, one_of
from pipelines.cli.shell import shell_of

PLANNED = typer.Option(None, "--planned-for", hidden=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(schedule)


def serve(
    context: typer.Context,
    host: str | None = typer.Option(None, "--host", help="Default: [web] host."),
    port: int | None = typer.Option(None, "--port", min=0, max=65535, help="Default: [web] port."),
    no_schedule: bool = typer.Option(
        False, "--no-schedule", help="Page, API and /metrics alone; anomaly schedule does the rest."
    ),
) -> None:
    """Scheduler, page, API and /metrics in one process, until SIGTERM. SIGHUP: read the settings anew."""
    from anomaly.settings import with_values
    from pipelines.serve import serve as run_server

    shell = shell_of(context)
    settings = shell.settings
    if host is not None:
        settings = with_values(settings, "--host", "web", host=host)
    if port is not None:
        settings = with_values(settings, "--port", "web", port=port)
    run_server(shell.services(settings), shell.config, shell.note, schedules=not no_schedule)


def schedule(
    context: typer.Context,
    once: str | None = typer.Option(
        None, "--once", help="Do this job now and end: ingest, train or score."
    ),
    planned: str | None = PLANNED,
) -> None:
    """Ingest, train and score when [schedule] says, until SIGTERM."""
    from pipelines.figures import handed_on
    from pipelines.schedule import JOBS, do_job, run_scheduler

    shell = shell_of(context)
    services = shell.services()
    if once is None:
        run_scheduler(services, shell.config)
        return
    one_of("--once", once, JOBS)
    with handed_on(services):
        for line in do_job(services, once, instant_of("--planned-for", planned, "UTC")):
            shell.say(line)
