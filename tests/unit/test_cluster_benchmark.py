"""The simulation of the executor, and the manifests of its cluster."""

from pathlib import Path

import pytest
import yaml

from benchmarks.cluster import simulate

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"


def played(shards, workers, in_flight):
    return simulate(iter(shards), workers, in_flight).seconds


def test_one_worker_takes_the_sum_and_the_last_publication():
    assert played([(2.0, 0.5)] * 4, 1, 2) == pytest.approx(4 * 2.0 + 0.5)


def test_workers_share_and_the_driver_publishes_meanwhile():
    assert played([(2.0, 0.5)] * 4, 2, 4) == pytest.approx(4.0 + 2 * 0.5)
    assert played([], 2, 4) == 0


def test_more_workers_than_the_driver_can_publish_for_bring_nothing():
    many = simulate(iter([(1.0, 0.1)] * 1_000), 1_000, 2_000)
    assert many.seconds == pytest.approx(1 + 1_000 * 0.1)
    assert many.driver == pytest.approx(0.99, abs=0.01)


def test_a_straggler_holds_the_others_up_only_when_the_room_is_full():
    shards = [(10.0, 0.0), *[(1.0, 0.0)] * 9]
    assert played(shards, 2, 20) == pytest.approx(10)
    assert played(shards, 2, 2) == pytest.approx(10 + 4)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.name)
def test_a_manifest_of_the_cluster_is_sound(file):
    (manifest,) = yaml.safe_load_all(file.read_text())
    assert manifest["apiVersion"] == "ray.io/v1"
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert groups[0]["rayStartParams"]["num-cpus"] == "0"
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
            assert container["image"].startswith("anomaly-ray:")
