"""Pages that are made when the site is built: settings, the REST interface, contributing, the changelog.

mkdocs calls the functions named on_*. The others render, and tests read them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from mkdocs.structure.files import File
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from anomaly.settings import RESULT_SECTIONS, Settings
from anomaly.web.access import Door
from anomaly.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = re.compile(r"\]\((?:docs/)?([a-z0-9/-]+\.md)")
WORDS: dict[object, str] = {str: "text", int: "number", float: "number", bool: "true or false"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let a folder in the nav stand for all its pages, by name, and load nothing from elsewhere."""
    config.extra["polyfills"] = ["assets/worker.js"]  # in place of the offline plugin's
    folder = Path(config.docs_dir)
    config.nav = [_expanded(entry, folder) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {
        "settings.md": settings_page(),
        "rest.md": rest_page(openapi()),
        "contributing.md": from_root("CONTRIBUTING.md"),
        "changelog.md": from_root("CHANGELOG.md"),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def _expanded(entry: Any, folder: Path) -> Any:
    if isinstance(entry, dict):
        return {title: _expanded(below, folder) for title, below in entry.items()}
    if isinstance(entry, list):
        return [below for each in entry for below in _listed(_expanded(each, folder))]
    if entry.endswith("/"):
        return sorted(path.relative_to(folder).as_posix() for path in (folder / entry).glob("*.md"))
    return entry


def _listed(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def from_root(name: str) -> str:
    """A page of the repository's root, its links to pages as seen from docs/."""
    return ADDRESS.sub(r"](\1", (ROOT / name).read_text(encoding="utf-8"))


def settings_page() -> str:
    """Every setting: its default, what it may be, what it means, and its variable."""
    parts = [
        "# Every setting\n",
        (
            "Made from the code. One file, `anomaly.toml` in the current folder or the one named by "
            "`--config` or `ANOMALY_CONFIG`; `anomaly init` writes it with all of this as comments. Every "
            "key can be set from the environment: `[grid] step` is `ANOMALY_GRID__STEP`; lists and tables "
            "are written as JSON. A key that does not exist is refused, with the nearest one that does.\n"
        ),
        (
            "Sections marked *shapes results* are part of a flag's id: change one of them and the month's "
            "flags are others.\n"
        ),
    ]
    for name, field in Settings.model_fields.items():
        model = section_model(field)
        heading = f"[{name}]" if name != "metric" else "[metric.NAME]"
        shapes = " *Shapes results.*" if name in RESULT_SECTIONS else ""
        parts.append(f"## {heading} {{ #{name} }}\n\n{(model.__doc__ or '').strip()}{shapes}\n")
        parts.append("| key | default | what it may be | meaning |\n|---|---|---|---|")
        parts += [
            f"| `{key}` | {_default(setting)} | {_cell(_type(setting.annotation))} "
            f"| {_cell(setting.description or '')} |"
            for key, setting in model.model_fields.items()
        ]
        parts.append("")
    return "\n".join(parts)


def section_model(field: FieldInfo) -> type[BaseModel]:
    """The class of a section; that of one metric where the section is a table of them."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    text = str(value) if isinstance(value, Path) else value
    return f"`{json.dumps(text)}`"


def _type(kind: Any) -> str:
    """What a value may be, in words."""
    if kind in WORDS:
        return WORDS[kind]
    if get_origin(kind) is Annotated:
        return _type(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in {Union, UnionType}:
        return " or ".join(_type(part) for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "table"
    return "path" if kind is Path else str(getattr(kind, "__name__", kind)).lower()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def openapi() -> dict[str, Any]:
    """What the served application says of itself."""
    nothing: Any = None  # the description is made without looking at any store
    door = Door(nothing, Settings().web, b"", nothing)
    return create_app(nothing, Settings(), CollectorRegistry(), lambda: False, door).openapi()


def rest_page(described: Mapping[str, Any]) -> str:
    """Every path, its parameters and answers."""
    parts = [
        "# REST\n",
        (
            "Made from the code. `anomaly serve` answers these; what it says of itself is at "
            '`/api/v1/openapi.json`. Answers are JSON; an error is `{"error": "what, where, what next"}`.\n'
        ),
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"## {method.upper()} {path}\n")
            parts.append(f"{operation.get('description', operation.get('summary', '')).strip()}\n")
            rows = list(_parameters(operation))
            if rows:
                parts.append("| parameter | where | what it may be | meaning |\n|---|---|---|---|")
                parts += [*rows, ""]
            answers = ", ".join(
                f"{code} {answer['description'].lower()}"
                for code, answer in operation["responses"].items()
            )
            parts.append(f"Answers: {answers}.\n")
    return "\n".join(parts)


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for given in operation.get("parameters", []):
        schema = given["schema"]
        needed = " (needed)" if given.get("required") else ""
        default = f", default {schema['default']}" if "default" in schema else ""
        meaning = given.get("description", schema.get("description", ""))
        kind = _cell(_schema_words(schema)) + default
        yield f"| `{given['name']}`{needed} | {given['in']} | {kind} | {_cell(meaning)} |"


def _schema_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(
            _schema_words(kind) for kind in schema["anyOf"] if kind.get("type") != "null"
        )
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    ends = [str(schema[key]) for key in ("minimum", "maximum") if key in schema]
    return schema.get("type", "any") + (f" {' to '.join(ends)}" if ends else "")
