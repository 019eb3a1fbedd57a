"""Shards of users, several at a time; they come out in their order, whoever ends first."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")


def in_order(
    shards: Mapping[int, Shard], work: Callable[[Shard], Result], workers: int
) -> Iterator[tuple[int, Result]]:
    """Do the work of each shard, at most `workers` at once (0: as many as there are cores).

    No more than that many results are ever held, so memory stays bounded. Threads suffice: numpy
    and ONNX Runtime let others run while they compute.
    Raises: what the work raises, at its shard; shards not begun are left alone.
    """
    size = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(size, thread_name_prefix="shard") as pool:
        going: deque[tuple[int, Future[Result]]] = deque()
        waiting = iter(shards.items())
        try:
            for number, shard in waiting:
                going.append((number, pool.submit(work, shard)))
                if len(going) == size:
                    first, future = going.popleft()
                    yield first, future.result()
            while going:
                first, future = going.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
