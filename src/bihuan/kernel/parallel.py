"""Work that releases the interpreter lock, shared between the cores.

One pool per process: eight users who ask at once share the cores instead of fighting over them,
and a part is never started twice.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

_guard = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def on_each_part(work: Callable[[int, int], T], total: int, *, parts: int | None = None) -> list[T]:
    """Cut ``0..total`` into even parts and do them on the cores at once.

    Parameters
    ----------
    work
        Takes a part's start and end and must release the interpreter lock to gain anything.
        Must not call this function itself: the pool would wait for itself.
    total
        Length of the whole; a part may be empty if it is short.
    parts
        Number of parts; None = one per core.

    Returns
    -------
    list
        What ``work`` returned, in the order of the parts.

    Examples
    --------
    >>> on_each_part(lambda start, end: end - start, 10, parts=3)
    [3, 3, 4]
    """
    count = core_count() if parts is None else parts
    ends = [total * part // count for part in range(count + 1)]
    if count == 1:
        return [work(0, total)]
    tasks = [_pool().submit(work, *part) for part in itertools.pairwise(ends)]
    wait(tasks)  # all of them, even if one fails: the others may be writing into one array
    return [task.result() for task in tasks]


def _pool() -> ThreadPoolExecutor:
    """Return this process's pool; a forked child makes its own, for threads do not survive."""
    with _guard:
        process = os.getpid()
        if process not in _pools:
            _pools[process] = ThreadPoolExecutor(core_count(), thread_name_prefix="bihuan-core")
        return _pools[process]
