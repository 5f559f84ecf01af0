"""Who is silent: judged by the watcher's own steady clock, never by a clock on the wall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Watch:
    """Remembers which beat of whom was seen first when.

    No machine's time of day takes part: a clock that jumps, here or there, neither kills a worker
    nor keeps a dead one alive. A watcher that was stopped itself sees fresh beats when it goes on.

    Parameters
    ----------
    lease_seconds
        Silence after which a worker is taken for dead.

    Examples
    --------
    >>> watch = Watch(10)
    >>> list(watch.silent({"a": 7}, now=100.0)), list(watch.silent({"a": 7}, now=109.0))
    ([], [])
    >>> list(watch.silent({"a": 8}, now=111.0)), list(watch.silent({"a": 8}, now=121.0))
    ([], [('a', 8)])
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self._seen: dict[str, tuple[int, float]] = {}

    def silent(self, beats: Mapping[str, int], now: float) -> Iterator[tuple[str, int]]:
        """Yield who has shown the same beat for the lease, with that beat.

        Parameters
        ----------
        beats
            The beat of every living worker but oneself.
        now
            Seconds of a steady clock.
        """
        for gone in set(self._seen) - set(beats):
            del self._seen[gone]
        for worker_id, count in beats.items():
            known = self._seen.get(worker_id)
            if known is None or known[0] != count:
                self._seen[worker_id] = (count, now)
            elif now - known[1] >= self._lease:
                yield worker_id, count
