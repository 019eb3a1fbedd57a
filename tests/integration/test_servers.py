"""The servers that the tests lean on are what they are taken for."""

import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError


def test_each_test_gets_an_empty_database(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_the_guarded_role_must_give_its_password(guarded_postgres_url: str) -> None:
    right = sa.create_engine(guarded_postgres_url)
    with right.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_user")) == "guarded"
    right.dispose()
    wrong = sa.create_engine(make_url(guarded_postgres_url).set(password="wrong"))
    with pytest.raises(OperationalError, match="password authentication failed"):
        wrong.connect()
    wrong.dispose()


def test_the_browser_runs_scripts(page: Page) -> None:
    page.set_content("<p id=out></p><script>out.textContent = 6 * 7</script>")
    assert page.inner_text("#out") == "42"


def test_promtool_tells_good_metrics_from_bad(promtool: Path) -> None:
    def checked(text: str) -> int:
        return subprocess.run(
            [promtool, "check", "metrics"], input=text.encode(), check=False
        ).returncode

    assert checked("# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n") == 0
    assert checked("a_total one\n") != 0


def test_prometheus_starts(prometheus: Path) -> None:
    shown = subprocess.run([prometheus, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("prometheus, version")
