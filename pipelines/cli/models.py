"""anomaly models: the registry."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

from pipelines.cli import output
from pipelines.cli.shell import shell_of
from pipelines.cli.trials import compare

if TYPE_CHECKING:
    from anomaly.store import ModelRow


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The registry of models.")
    group.command("list")(list_models)
    group.command()(compare)
    group.command()(promote)
    group.command()(rollback)
    app.add_typer(group, name="models")


def list_models(context: typer.Context) -> None:
    """Models, the newest first, with what they learnt from and how well."""
    shell = shell_of(context)
    models = shell.services().store.models.list()
    columns = (
        "version", "state", "trained from", "trained to", "users", "loss", "twin's loss",
        "calibration error", "cell", "likelihoods",
    )  # fmt: skip
    rows = (
        (
            model.version,
            model.state,
            f"{model.trained_from:%Y-%m-%d}",
            f"{model.trained_to:%Y-%m-%d}",
            model.users,
            model.validation_loss,
            model.twin_loss,
            model.calibration_error,
            model.cell,
            families_of(model),
        )
        for model in models
    )
    output.show(shell, f"{len(models)} models", columns, rows)
    for verdict in dict.fromkeys(model.note for model in models if model.note):
        shell.say(verdict)


def families_of(model: ModelRow) -> str | None:
    """How many metrics have each likelihood, the commonest first."""
    if model.families is None:
        return None
    counts = Counter(model.families.values())
    return ", ".join(f"{family} {count}" for family, count in counts.most_common())


def promote(
    context: typer.Context, version: str = typer.Argument(help="A model's version.")
) -> None:
    """Make VERSION the champion; the next run scores with it."""
    shell = shell_of(context)
    services = shell.services()
    row = services.store.models.get(version)
    services.artefacts.read(row.address, row.sha256)  # refuses files that fail their checks
    model = services.store.models.promote(version, services.clock())
    shell.say(f"model {model.version} is champion. Undo: anomaly models rollback")


def rollback(context: typer.Context) -> None:
    """Withdraw the champion; the one before it takes its place."""
    shell = shell_of(context)
    services = shell.services()
    model = services.store.models.rollback(services.clock())
    shell.say(f"model {model.version} is champion again")
