"""Run what waits for databases beside the event loop, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio.lowlevel import RunVar
from fastapi.concurrency import run_in_threadpool

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

QUICK = 2
"""Calls that run at once. Threads share one interpreter: more of them do not answer sooner, they
only interrupt each other."""
QUICK_SECONDS = 0.05
"""A call that takes longer waits for something else than the interpreter; its place is free."""

_places: RunVar[asyncio.Semaphore] = RunVar("bihuan quick places")


async def in_thread(call: Callable[[*Ts], T], *given: *Ts) -> T:
    """Run ``call`` in a worker thread and return what it returns.

    Quick calls queue for :data:`QUICK` places in the order they came; one that is not done after
    :data:`QUICK_SECONDS` gives its place to the next and goes on, so that no slow one holds up
    the quick. The framework's limit of 40 threads holds over all.
    """
    try:
        places = _places.get()
    except LookupError:
        places = asyncio.Semaphore(QUICK)
        _places.set(places)
    await places.acquire()
    is_held = True

    def give_back() -> None:
        nonlocal is_held
        if is_held:
            is_held = False
            places.release()

    timer = asyncio.get_running_loop().call_later(QUICK_SECONDS, give_back)
    try:
        return await run_in_threadpool(call, *given)
    finally:
        timer.cancel()
        give_back()
