"""How much one caller may send: requests per minute, bytes per request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from bihuan.server.api.frame.problem import TooLargeError, TooManyRequestsError

CALLERS_KEPT = 20_000


class RateLimit:
    """A bucket of requests per caller, refilled evenly; kept in this process.

    Parameters
    ----------
    per_minute
        Requests per minute; a caller may send as many at once after a quiet minute.
    seconds
        Tells monotonic seconds.
    """

    def __init__(self, per_minute: int, seconds: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._seconds = seconds
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request of ``caller``.

        Raises
        ------
        TooManyRequestsError
            If its bucket is empty.
        """
        now = self._seconds()
        with self._lock:
            left, since = self._buckets.pop(caller, (float(self.per_minute), now))
            left = min(self.per_minute, left + (now - since) * self.per_minute / 60)
            self._buckets[caller] = (max(left - 1, 0.0) if left >= 1 else left, now)
            if len(self._buckets) > CALLERS_KEPT:
                self._buckets.popitem(last=False)
        if left < 1:
            raise TooManyRequestsError(
                f"You send more than {self.per_minute} requests a minute.",
                remedy="Wait a moment, and send fewer.",
                zh=f"请求过于频繁（每分钟上限 {self.per_minute} 次），请稍后再试。",
            )


def limited(receive: Receive, limit: int) -> Receive:
    """Return ``receive`` that refuses a body of more than ``limit`` bytes, announced or not.

    Raises
    ------
    HTTPException
        413, when the bytes read pass the limit.
    """
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            # the framework takes any other error while a body is read for a malformed one
            raise HTTPException(413, too_large(limit).message)
        return message

    return count


def too_large(limit: int) -> TooLargeError:
    """Return the error for a body of more than ``limit`` bytes."""
    return TooLargeError(
        f"The request body is larger than {limit / 1e6:g} MB.",
        remedy="Send less at once, or put the file where the worker can ingest it.",
        zh=f"请求体超过 {limit / 1e6:g} MB，请拆分，或放到采集目录由作业导入。",
    )
