"""anomaly notify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from anomaly.exceptions import SourceError
from pipelines.cli.shell import Shell, shell_of

if TYPE_CHECKING:
    from pipelines.jobs.tell import Sent


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Whom to tell.")
    group.command()(test)
    group.command()(send)
    app.add_typer(group, name="notify")


def test(context: typer.Context) -> None:
    """Send a test message to each channel of [notify], whatever the hour."""
    from pipelines.jobs.tell import send_tests

    shell = shell_of(context)
    _say(shell, send_tests(shell.services()))


def send(context: typer.Context) -> None:
    """Send what is due now; runs and the scheduler do this by themselves."""
    from pipelines.jobs.tell import tell

    shell = shell_of(context)
    sent = tell(shell.services())
    if not sent:
        shell.say("nothing was due, or it is held back by [notify] quiet or per_hour")
    _say(shell, sent)


def _say(shell: Shell, sent: list[Sent]) -> None:
    """One line a message.

    Raises: SourceError if one was not taken.
    """
    for one in sent:
        shell.say(f"{one.channel}: {one.title}: {one.why or 'sent'}")
    failed = [one.channel for one in sent if one.why is not None]
    if failed:
        raise SourceError(
            f"[notify]: {', '.join(failed)} did not take the message; what waits is sent again later."
        )
