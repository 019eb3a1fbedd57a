"""Cores and memory, as cgroups of both versions grant them."""

import os

import psutil
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_info

from pipelines.machine import Machine, one_thread_each, this_machine, workers_for

GIB = 2**30


@pytest.fixture
def cgroup(tmp_path):
    """Write /proc/self/cgroup and files below the mount; return what is made of them."""

    def machine(membership: str, files: dict[str, str]) -> Machine:
        proc, mount = tmp_path / "cgroup", tmp_path / "mount"
        proc.write_text(membership)
        for name, text in files.items():
            file = mount / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return this_machine(proc, mount)

    return machine


def test_without_limits_it_is_the_whole_machine(cgroup):
    files = {"job/cpu.max": "max 100000\n", "job/memory.max": "max\n"}
    whole = Machine(len(os.sched_getaffinity(0)), psutil.virtual_memory().total)
    assert cgroup("0::/job\n", files) == whole
    assert cgroup("", {}) == whole


def test_version_two_grants_a_part(cgroup):
    files = {"job/cpu.max": "50000 100000\n", "job/memory.max": str(GIB)}
    assert cgroup("0::/job\n", files) == Machine(1, GIB)


def test_a_limit_above_one_s_own_counts_too(cgroup):
    files = {"pod/memory.max": str(GIB), "pod/job/memory.max": "max", "pod/job/cpu.max": "max 1"}
    assert cgroup("0::/pod/job\n", files).memory == GIB


def test_version_one_grants_a_part(cgroup):
    membership = "5:cpu,cpuacct:/job\n4:memory:/job\n1:name=systemd:/\n"
    files = {
        "cpu/job/cpu.cfs_quota_us": "100000",
        "cpu/job/cpu.cfs_period_us": "100000",
        "memory/job/memory.limit_in_bytes": str(GIB),
        "memory/memory.limit_in_bytes": str(2**63 - 4096),
    }
    assert cgroup(membership, files) == Machine(1, GIB)


def test_a_container_sees_its_own_cgroup_at_the_top_under_its_host_s_name(cgroup):
    files = {"memory/memory.limit_in_bytes": str(GIB), "cpu/cpu.cfs_quota_us": "-1"}
    assert cgroup("4:memory:/docker/0123\n1:cpu:/docker/0123\n", files).memory == GIB


@pytest.mark.parametrize(
    ("asked", "memory", "workers"),
    [(0, 64, 8), (3, 64, 3), (0, 5, 3), (3, 4, 2), (0, 1, 1)],
)
def test_workers_fit_into_cores_and_memory(asked, memory, workers):
    machine = Machine(8, memory * GIB)
    assert workers_for(machine, asked, base=GIB, each=GIB) == workers


def test_libraries_start_no_threads_beside_the_workers():
    def threads():
        return {pool["num_threads"] for pool in threadpool_info()}

    before = pa.cpu_count(), threads()
    with one_thread_each(3):
        assert pa.cpu_count() == 3
        assert threads() == {1}
    assert (pa.cpu_count(), threads()) == before
