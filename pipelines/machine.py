"""What this process may use: cores and memory, as cgroups of either version limit them.

`os.cpu_count` and the memory that the kernel reports are the whole machine's. In a container they
lead to more threads than may run and more memory than is granted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
from threadpoolctl import threadpool_limits

MEMORY_SHARE = 0.8  # of what is granted; the rest is the kernel's and the database client's
UNLIMITED = 1 << 60  # bytes; cgroups of version 1 write some such number for "no limit"
PROC = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """cores: at least 1, a part of a core counts as one. memory: bytes."""

    cores: int
    memory: int


def this_machine(proc: Path = PROC, mount: Path = MOUNT) -> Machine:
    """Cores and memory of this machine, or of the cgroup that this process lives in if that is less."""
    own = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 0
    cores = own or os.cpu_count() or 1
    folders = _cgroups(proc, mount)
    quotas = [quota for folder in folders if (quota := _quota(folder)) is not None]
    limits = [limit for folder in folders if (limit := _limit(folder)) is not None]
    return Machine(
        max(1, min([cores, *(-int(-quota // 1) for quota in quotas)])),
        min([psutil.virtual_memory().total, *limits]),
    )


def workers_for(machine: Machine, asked: int, base: int, each: int) -> int:
    """How many workers fit: one a core, or as many as were asked for, but no more than memory holds.

    Args: asked: 0 leaves it to the machine. base: bytes that are held whoever works; each: bytes
        that a worker needs beside.
    """
    room = int((machine.memory * MEMORY_SHARE - base) // max(each, 1))
    return max(1, min(asked or machine.cores, room))


@contextmanager
def one_thread_each(workers: int) -> Iterator[None]:
    """Keep libraries from starting threads of their own beside the workers.

    BLAS and OpenMP compute in the thread that calls them, so a result does not depend on the number
    of cores. Arrow's pool is one for the process. ONNX Runtime's sessions have one thread anyway.
    """
    before = pa.cpu_count()
    pa.set_cpu_count(workers)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        pa.set_cpu_count(before)


def _cgroups(proc: Path, mount: Path) -> Sequence[Path]:
    """The folders whose limits hold for this process: its cgroups and all above them.

    A container may see the path that its host gave it and yet have its own cgroup mounted at the
    top; so the tops count whether or not the path is there.
    """
    folders: dict[Path, None] = {}
    for line in _text(proc).splitlines():
        _, controllers, place = line.split(":", 2)
        for top in [mount / name for name in controllers.split(",") if name] or [mount]:
            inner = top / place.lstrip("/")
            inside = [inner, *inner.parents]
            folders |= dict.fromkeys(inside[: inside.index(top) + 1])
    return tuple(folders)


def _quota(folder: Path) -> float | None:
    """Cores that may be used at once; None without a limit."""
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None  # "max", -1, or no such file
    return int(quota) / int(period)


def _limit(folder: Path) -> int | None:
    """Bytes that may be held; None without a limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name).strip()
        if text.isdecimal() and int(text) < UNLIMITED:
            return int(text)
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
