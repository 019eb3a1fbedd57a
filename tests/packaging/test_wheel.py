"""What `make build` makes can be installed where there is no checkout, and does its work there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.installing import Installed, install

SMALL_MODEL = {"ANOMALY_MODEL__STEPS": "40", "ANOMALY_MODEL__UNITS": "8"}
TRAINING = frozenset({"tensorflow", "keras", "tf2onnx", "onnx"})
START_SECONDS = 90
MOST_MEMORY = 4 << 30  # bytes of address space: the limit of deploy/


@pytest.fixture(scope="module")
def dist(repository, tmp_path_factory) -> Path:
    """A folder with a source archive and the wheel made from it, as `make build` makes them."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, repository]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"), wheel)


def test_it_carries_the_three_packages_their_types_and_the_licences(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "anomaly", "pipelines", "migrations",
    }  # fmt: skip
    assert {"anomaly/py.typed", "pipelines/py.typed", "migrations/script.py.mako"} <= set(held)
    licences = [name for name in held if "/licenses/" in name]
    assert [Path(name).name for name in sorted(licences)] == ["LICENSE", "NOTICE"]


def test_every_package_it_is_installed_with_is_named_with_its_licence(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    named = {
        re.split(r"[\[><=; ]", line)[0]
        for line in project["dependencies"] + [line for extra in extras for line in extra]
    }
    notice = (repository / "NOTICE").read_text()
    licences = dict(re.findall(r"^([a-z0-9-]+) {2,}(\S.*)$", notice, re.MULTILINE))
    assert named == set(licences)


def test_the_source_archive_holds_what_the_wheel_is_made_and_tested_from(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "NOTICE", "requirements.lock", "tests/conftest.py"} <= held
    assert not {name for name in held if name.startswith((".ci", ".git/", ".venv", "dist"))}


def test_the_checkout_is_out_of_reach(installed, repository):
    shown = installed.python("-c", "import anomaly, pipelines; print(anomaly.__file__)").stdout
    assert Path(shown.strip()).is_relative_to(installed.folder.parent)
    searched = installed.python("-c", "import sys; print(*sys.path, sep='\\n')").stdout
    assert str(repository) not in searched.splitlines()


@pytest.fixture(scope="module")
def demo(installed) -> str:
    """What the demo says when it is run from the wheel; its folder lies where its commands run."""
    return installed.anomaly(
        "demo", "--no-serve", "--users", "30", "--months", "2", **SMALL_MODEL
    ).stdout


@pytest.fixture(scope="module")
def untrained(wheel, tmp_path_factory) -> Installed:
    """The same where TensorFlow and what only it needs are not installed."""
    return install(tmp_path_factory.mktemp("scoring"), wheel, without=TRAINING)


@pytest.mark.timeout(600)
def test_the_demo_tells_its_story_from_there(installed, demo):
    assert re.search(r"\d+ of \d+ planted incidents found", demo)
    checked = installed.anomaly("db", "check", "--config", "demo/anomaly.toml")
    assert checked.returncode == 0
    listed = installed.anomaly("users", "list", "--month", "2025-07", "--config=demo/anomaly.toml")
    assert "rank" in listed.stdout


def test_its_types_reach_whoever_imports_it(installed, wheel):
    """mypy reads types of an installed package only where py.typed lies beside it."""
    program = installed.folder / "program.py"
    program.write_text(
        "import anomaly\nfrom anomaly.months import Month\nreveal_type(Month.parse('2026-10'))\n"
    )
    environment = {**os.environ, "MYPYPATH": "", "PYTHONPATH": ""}
    shown = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", installed.interpreter,
         "--config-file", os.devnull, "--follow-imports=silent", "--cache-dir", installed.folder / "cache", program],
        capture_output=True, text=True, check=False, cwd=installed.folder, env=environment,
    )  # fmt: skip
    assert 'Revealed type is "anomaly.months.Month"' in shown.stdout, shown.stdout + shown.stderr


@pytest.mark.timeout(600)
def test_scoring_and_serving_do_without_what_trains(installed, demo, untrained):
    gone = untrained.python(
        "-c",
        "import importlib.util as u; print(*map(u.find_spec, ('tensorflow', 'keras', 'onnx')))",
    )
    assert gone.stdout.split() == ["None"] * 3
    config = f"--config={installed.folder / 'demo' / 'anomaly.toml'}"
    flags = ("flags", "export", "--month=2025-07", "--format=csv", config)
    before = installed.anomaly(*flags).stdout
    again = untrained.anomaly("run", "--month=2025-07", "--force", config, **SMALL_MODEL)
    assert "2025-07 complete" in again.stdout
    assert untrained.anomaly(*flags).stdout == before
    with serving(untrained, config) as address:
        assert "2025-07" in fetched(f"{address}/api/v1/users?month=2025-07")
        assert "anomaly_build_info" in fetched(f"{address}/metrics")


def test_without_what_trains_a_first_month_is_refused_with_a_way_out(installed, demo, untrained):
    config = f"--config={installed.folder / 'demo' / 'anomaly.toml'}"
    other = {"ANOMALY_MODEL__UNITS": "16"}  # no model was trained with this configuration
    with pytest.raises(AssertionError, match="TensorFlow is not installed here") as refused:
        untrained.anomaly("run", "--month=2025-07", "--force", config, **other)
    assert "Train it there first" in str(refused.value)
    assert "Traceback" not in str(refused.value)


@contextmanager
def serving(installed: Installed, config: str) -> Iterator[str]:
    """`anomaly serve` on a free port, in as much memory as an image gets; ends with 0 on SIGTERM."""
    limited = ["prlimit", f"--as={MOST_MEMORY}"]
    command = [*limited, installed.interpreter.with_name("anomaly"), "serve", "--port=0", config]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        command, cwd=installed.folder, env=environment, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        for line in process.stderr:
            if found := re.search(r"page: (http://\S+?)/ ", line):
                yield found.group(1)
                break
        else:
            pytest.fail("serve said no address")
    finally:
        process.terminate()
        process.communicate(timeout=START_SECONDS)
    assert process.returncode == 0


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=START_SECONDS) as answer:
        return answer.read().decode()
