"""Shards on this machine, in threads: numpy and ONNX Runtime let others run while they compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import structlog
from tenacity import (
    Retrying,
    retry_if_not_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from pipelines.executors.port import FATAL, Failure, Result, Shard
from pipelines.machine import one_thread_each

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0


class Threads:
    """So many threads of this process."""

    def __init__(self, workers: int, attempts: int) -> None:
        self.workers = workers
        self._attempts = attempts
        self._retrying = Retrying(
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
            retry=retry_if_not_exception_type(FATAL),
            reraise=True,
        )

    def run(
        self, work: Callable[[Shard], Result], shards: Iterable[tuple[int, Shard]]
    ) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.run`."""
        with (
            one_thread_each(self.workers),
            ThreadPoolExecutor(self.workers, thread_name_prefix="shard") as pool,
        ):
            going: deque[tuple[int, Future[Result | Failure]]] = deque()
            try:
                for number, shard in shards:
                    # Each shard's log lines carry what is bound here, and its number.
                    future = pool.submit(copy_context().run, self._attempted, work, number, shard)
                    going.append((number, future))
                    if (
                        len(going) > self.workers
                    ):  # one waits, so that none idles while one is taken
                        first, future = going.popleft()
                        yield first, future.result()
                while going:
                    first, future = going.popleft()
                    yield first, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _attempted(
        self, work: Callable[[Shard], Result], number: int, shard: Shard
    ) -> Result | Failure:
        try:
            with structlog.contextvars.bound_contextvars(shard=number):
                return self._retrying.copy()(work, shard)
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a shard's work may raise)
            return Failure(self._attempts, error)
