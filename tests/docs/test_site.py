"""The documentation as a site: built strictly, complete, and readable without any network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from anomaly.settings import Settings


@pytest.fixture(scope="module")
def site(repository, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(repository) -> ModuleType:
    place = repository / "docs" / "hooks" / "pages.py"
    spec = importlib.util.spec_from_file_location("docs_pages", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_has_its_line(pages):
    text = pages.settings_page()
    for name, field in Settings.model_fields.items():
        _, _, section = text.partition(f"{{ #{name} }}")
        section = section.partition("\n## ")[0]
        for key, setting in pages.section_model(field).model_fields.items():
            (line,) = [line for line in section.splitlines() if line.startswith(f"| `{key}` |")]
            assert (setting.description or "?").split("|")[0] in line
    assert "annotated" not in text
    assert "| `reader` | none | text |" in text


def test_every_address_of_the_interface_has_its_section(pages):
    described = pages.openapi()
    text = pages.rest_page(described)
    headings = set(re.findall(r"^## ([A-Z]+ \S+)$", text, re.MULTILINE))
    served = {
        f"{method.upper()} {path}"
        for path, methods in described["paths"].items()
        for method in methods
    }
    assert headings == served
    assert "GET /api/v1/flags" in served
    assert "| `severity` | query | `low`, `medium`, `high`, `critical` |" in text


def test_no_page_loads_anything_from_another_machine(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"", text)
        loaded += re.findall(
            r"<link[^>]*rel=\"(?:stylesheet|preconnect)\"[^>]*href=\"([^\"]+)\"", text
        )
        assert not [address for address in loaded if "//" in address], page.name
    assert not [sheet for sheet in site.rglob("*.css") if "fonts.googleapis" in sheet.read_text()]


def test_it_is_read_and_searched_from_a_folder(site, page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.get_by_role("link", name="Every setting").first.click()
    page.wait_for_url("**/settings.html")
    page.locator("[data-md-component=search-query]").click()
    page.keyboard.type("truncate_steps")
    page.locator(".md-search-result__item").first.wait_for()
    assert not [address for address in asked if not address.startswith("file:")]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_screen_and_no_name_in_a_table_is_broken(site, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for file in sorted(site.glob("*.html")):
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
        broken = page.evaluate(
            "[...document.querySelectorAll('article td code')]"
            ".filter(one => /^[a-z0-9_]+$/.test(one.textContent) && one.getClientRects().length > 1)"
            ".map(one => one.textContent)"
        )
        assert broken == [], file.name


@pytest.mark.parametrize("place", ["forgotten.md", "drawer/forgotten.md"])
def test_a_page_that_nobody_leads_to_is_refused(repository, tmp_path, place):
    for name in ("docs", "mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(repository / name)
    (tmp_path / "docs").unlink()
    (tmp_path / "docs").mkdir()
    for entry in (repository / "docs").iterdir():
        (tmp_path / "docs" / entry.name).symlink_to(entry)
    (tmp_path / "docs" / "drawer").mkdir()
    (tmp_path / "docs" / place).write_text("# Forgotten\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "forgotten.md" in done.stderr
