"""What the pages load: the product's own sheet and script, and plotly's bundle from its package."""

from __future__ import annotations

import gzip
import importlib.util
import re
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Depends, HTTPException, Request, Response

import anomaly
from anomaly.exceptions import SourceError
from anomaly.web.access import ANYONE

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_OWN = ("style.css", "plotly.css", "plot.js", "keys.js", "icon.svg")
_PLOTLY = "plotly.min.js"
# What plotly's script looks for before it adds a style element: one whose id is the style's hash.
_STYLE_MARK = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')


def addresses() -> dict[str, str]:
    """The address of each asset; it changes with the version, so that browsers may keep it."""
    own = {name: f"/static/{name}?v={anomaly.__version__}" for name in _OWN}
    return {**own, _PLOTLY: f"/static/{_PLOTLY}?v={version('plotly')}"}


def router() -> APIRouter:
    """Serves the assets below /static, compressed where the browser takes it."""
    routes = APIRouter(prefix="/static", include_in_schema=False, dependencies=[Depends(ANYONE)])

    @routes.get("/{name}")
    def asset(name: str, request: Request) -> Response:
        if name not in (*_OWN, _PLOTLY):
            raise HTTPException(404, f"there is no asset {name!r}")
        plain, packed = _read(name)
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "Vary": "Accept-Encoding",
        }
        kind = _TYPES[Path(name).suffix]
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=kind
            )
        return Response(plain, headers=headers, media_type=kind)

    return routes


@cache
def style_marks() -> tuple[str, ...]:
    """Ids that a page must hold for plotly's script not to add styles of its own.

    The content policy forbids them; they dress maps, which no page has.
    """
    return tuple(sorted({found.decode() for found in _STYLE_MARK.findall(_read(_PLOTLY)[0])}))


@cache
def _read(name: str) -> tuple[bytes, bytes]:
    content = (
        _plotly() if name == _PLOTLY else files("anomaly.web").joinpath("static", name).read_bytes()
    )
    return content, gzip.compress(content, 6, mtime=0)


def _plotly() -> bytes:
    # Found, not imported: importing plotly costs time and memory, and only this file is wanted.
    package = importlib.util.find_spec("plotly")
    if package is None or package.origin is None:
        raise SourceError(
            "package plotly is not installed, so plots cannot be drawn: pip install plotly"
        )
    return Path(package.origin).parent.joinpath("package_data", _PLOTLY).read_bytes()
