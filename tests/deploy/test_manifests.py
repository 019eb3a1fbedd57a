"""Container, compose, Kubernetes and systemd files: valid, and true of the product they start."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from anomaly.settings import load
from pipelines.cli.app import build

KUBERNETES = "1.33"
CUSTOM = {"ServiceMonitor": "servicemonitor.json", "PrometheusRule": "prometheusrule.json"}
EXPOSURE = (
    "25"  # of 100, as systemd-analyze security counts; 20 and less is "OK", 96 is none at all
)


@pytest.fixture(scope="module")
def deploy(repository) -> Path:
    return repository / "deploy"


@pytest.fixture(scope="module")
def manifests(deploy) -> list[dict]:
    folder = deploy / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in folder.glob("*.yaml")} == {*listed, "kustomization.yaml"}
    return [
        document for name in listed for document in yaml.safe_load_all((folder / name).read_text())
    ]


def pods(manifests) -> list[dict]:
    """The specifications of pods, wherever they stand."""
    found = []
    for document in manifests:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found.append(spec["template"]["spec"])
    return found


def understood(command: list[str]) -> None:
    """The product knows the command and its options."""
    words = [word for word in command if not word.startswith("-")]
    named = words[:2] if words[0] == "db" else words[:1]
    told = CliRunner().invoke(build(), [*named, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0, command
    assert all(option in told.output for option in command if option.startswith("-")), command


def test_the_container_file_has_no_fault_that_a_linter_knows(deploy):
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [linter, "--no-color", deploy / "container" / "Containerfile"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_container_runs_as_nobody_in_particular_and_says_how_it_is(deploy):
    text = (deploy / "container" / "Containerfile").read_text()
    assert "USER 10001:10001" in text
    assert "HEALTHCHECK" in text
    assert "/healthz" in text
    assert re.search(r'ENTRYPOINT \["anomaly"\]\nCMD \["serve"\]', text)


def test_the_scoring_image_is_locked_without_what_only_training_needs(deploy, repository):
    def pinned(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", path.read_text(), re.MULTILINE))

    scoring = pinned(deploy / "container" / "scoring.lock")
    training = pinned(deploy / "container" / "training.lock")
    everything = pinned(repository / "requirements.lock")
    assert not {"tensorflow-cpu", "tensorflow", "keras", "tf2onnx", "onnx"} & set(scoring)
    assert {"tensorflow-cpu", "keras", "tf2onnx", "onnx"} <= set(training)
    assert scoring.items() <= training.items() <= everything.items()
    assert {"onnxruntime", "fastapi", "psycopg", "alembic", "plotly"} <= set(scoring)


def test_compose_names_files_that_are_there_and_commands_that_are_known(deploy):
    folder = deploy / "compose"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert ":" in service["image"], f"{name}: name the image's version"
        for volume in service.get("volumes", []):
            place = volume.split(":")[0]
            missing = place.startswith(".") and not (folder / place).exists()
            assert not missing or place == "../grafana", f"{name}: {place}"
        if service["image"].startswith("anomaly"):
            understood(service["command"])
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
    assert load(folder / "anomaly.toml", {}).database.url.startswith("postgresql")


def test_kubernetes_knows_every_key_of_the_manifests(manifests, deploy):
    seen = set()
    for document in manifests:
        seen.add(document["kind"])
        if document["kind"] in CUSTOM:
            schema = (deploy / "kubernetes" / "schemas" / CUSTOM[document["kind"]]).read_text()
            jsonschema.validate(document, json.loads(schema))
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert seen >= {
        "Deployment", "CronJob", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor",
    }  # fmt: skip


def test_the_operator_gets_the_rules_that_prometheus_gets(manifests, deploy):
    """Where they differ: paste `groups` of alerts.yml below `spec` of rules.yaml."""
    (rules,) = [one for one in manifests if one["kind"] == "PrometheusRule"]
    theirs = yaml.safe_load((deploy / "prometheus" / "alerts.yml").read_text())
    assert rules["spec"]["groups"] == theirs["groups"]


def test_a_misspelt_key_of_a_custom_resource_is_refused(manifests, deploy):
    monitor = next(one for one in manifests if one["kind"] == "ServiceMonitor")
    schema = json.loads((deploy / "kubernetes" / "schemas" / "servicemonitor.json").read_text())
    wrong = {**monitor, "spec": {**monitor["spec"], "endpoint": []}}
    with pytest.raises(jsonschema.ValidationError, match="endpoint"):
        jsonschema.validate(wrong, schema)


def test_pods_are_locked_down_and_start_what_the_product_knows(manifests, deploy):
    for pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            understood(container["args"])
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert load(deploy / "kubernetes" / "anomaly.toml", {}).run.artefacts is not None


def test_selectors_find_their_pods(manifests):
    by_kind = {document["kind"]: document for document in manifests}
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert by_kind["Service"]["spec"]["selector"].items() <= labels.items()
    budget = by_kind["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert budget["minAvailable"] < by_kind["Deployment"]["spec"]["replicas"]


def test_kustomize_renders_them_where_it_is_there(deploy):
    if shutil.which("kubectl") is None:
        return  # the manifests are plain; the tests above read them without it
    done = subprocess.run(
        ["kubectl", "kustomize", deploy / "kubernetes"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"].get("namespace", "anomaly") for one in rendered} == {"anomaly"}
    assert "registry.example/anomaly:0.1.0-scoring" in done.stdout


def units(deploy) -> list[Path]:
    return sorted((deploy / "systemd").glob("anomaly*"))


def test_units_start_what_the_product_knows(deploy):
    for unit in units(deploy):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read_string(unit.read_text())
        assert parser.has_section("Unit")
        for command in re.findall(
            r"^ExecStart\w*=/opt/anomaly/bin/anomaly (.*)$", unit.read_text(), re.MULTILINE
        ):
            understood(command.split())
    assert len(units(deploy)) == 3


def test_systemd_finds_nothing_wrong_and_little_exposed_where_it_is_there(deploy, tmp_path):
    if shutil.which("systemd-analyze") is None:
        return  # the test above reads the units without it
    for unit in units(deploy):
        text = unit.read_text().replace("/opt/anomaly/bin/anomaly", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("Documentation=man:systemd.exec(5)\n", ""))
    for unit in sorted(tmp_path.glob("anomaly*")):
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stderr
        assert unit.name not in verified.stderr, verified.stderr
        if unit.suffix == ".service":
            rated = subprocess.run(
                ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert rated.returncode == 0, rated.stdout[-2_000:] + rated.stderr
