"""Who may come in: anomaly token create, list, revoke."""

from __future__ import annotations

import typer

from anomaly.exceptions import UsageError
from pipelines.cli import output
from pipelines.cli.arguments import one_of
from pipelines.cli.shell import shell_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Keys to the page and the API.")
    group.command()(create)
    group.command("list")(list_tokens)
    group.command()(revoke)
    app.add_typer(group, name="token")


def create(
    context: typer.Context,
    name: str = typer.Argument(help="Who will hold it: a person or a program."),
    role: str = typer.Option(
        ..., "--role", help="monitor, reader, analyst, operator or administrator."
    ),
    expires: str = typer.Option("90d", "--expires", help="It opens so long: 12h, 90d, 52w."),
) -> None:
    """Make a token and write it to standard output, once; only its hash is kept."""
    from anomaly.months import parse_duration
    from anomaly.roles import Role

    one_of("--role", role, list(Role))
    shell = shell_of(context)
    services = shell.services()
    now = services.clock()
    ends = now + parse_duration(expires)
    made, secret = services.store.tokens.create(name, Role(role), shell.actor, now, ends)
    services.audit.record(shell.actor, "token.create", f"token:{made.id}", f"role {made.role}")
    shell.note(
        f"token {made.id} for {made.name}, {made.role}, until {ends:%Y-%m-%d %H:%M} UTC. "
        "It is shown this once; hand it over where nobody else reads it."
    )
    typer.echo(secret)


def list_tokens(
    context: typer.Context,
    everything: bool = typer.Option(
        False, "--all", help="With log-ons, and with what expired or was revoked."
    ),
) -> None:
    """Tokens: to whom, in which role, until when, and when last used."""
    shell = shell_of(context)
    services = shell.services()
    now = services.clock()
    columns = ("id", "name", "kind", "role", "author", "created", "expires", "last used", "state")
    rows = [
        (
            token.id,
            token.name,
            token.kind,
            token.role,
            token.author,
            token.created_at,
            token.expires_at,
            token.last_used_at or "never",
            token.state(now),
        )
        for token in services.store.tokens.everyone()
        if everything or (token.kind == "token" and token.state(now) == "valid")
    ]
    output.show(shell, f"{len(rows)} tokens", columns, rows)


def revoke(
    context: typer.Context, token_id: int = typer.Argument(help="As token list gives it.")
) -> None:
    """End a token, with the log-ons made with it, or one log-on."""
    shell = shell_of(context)
    services = shell.services()
    services.audit.record(shell.actor, "token.revoke", f"token:{token_id}")
    if not services.store.tokens.revoke(token_id, services.clock()):
        raise UsageError(
            f"token {token_id} is not valid, or there is none. See: anomaly token list --all"
        )
    shell.say(f"token {token_id} opens nothing any more")
