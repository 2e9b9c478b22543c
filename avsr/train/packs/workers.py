"""Worker processes for clips, which end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from typing import TypeVar

import cv2

from avsr.train.stopping import leave_terminal_to_parent

T = TypeVar("T")
R = TypeVar("R")


def map_in_processes(items: Sequence[T], work: Callable[[T], R], jobs: int) -> Iterator[tuple[T, R | None]]:
    """Yield each item with the result of ``work`` in one of ``jobs`` processes; None if the item killed its process.

    When a process dies, all items in progress are tried again, each in a process of its own, so that no other item
    loses its result.
    """
    waiting = deque(items)
    while waiting:
        running: dict[Future[R], T] = {}
        executor = open_executor(min(jobs, len(waiting)))
        try:
            while waiting or running:
                while waiting and len(running) < 2 * jobs:
                    running[executor.submit(work, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenExecutor:
            pass  # one of the running items killed its process; which one is found out below
        finally:
            executor.shutdown(cancel_futures=True)
        for item in running.values():
            yield item, _alone(item, work)


def _alone(item: T, work: Callable[[T], R]) -> R | None:
    with open_executor(1) as executor:
        try:
            return executor.submit(work, item).result()
        except BrokenExecutor:
            return None


def num_cores() -> int:
    """Return how many processor cores this process may use: a job of a cluster may have few of many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_executor(jobs: int) -> Executor:
    """Return ``jobs`` processes."""
    # Forking a process in which MediaPipe or OpenCV has threads can hang it.
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    leave_terminal_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed, which the queues between them do not show."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
