"""What the doctor says of one thing, and from where on it is too much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    name
        What was looked at.
    ok
        Whether it is as it should be.
    zh, en
        What was found.
    remedy_zh, remedy_en
        What to do; empty if it is ok.
    """

    name: str
    ok: bool
    zh: str
    en: str
    remedy_zh: str = ""
    remedy_en: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on something is wrong.

    Parameters
    ----------
    enough_disk
        Share of the disk that must be free, 0 to 1: below it, ingest and deployment should not
        begin.
    audit_entries
        How many of the newest audit entries are verified; the whole chain takes a job.
    waiting
        How long a job may wait, and a schedule be overdue, while no worker lives.
    silence
        How long a worker may be silent beyond its lease: clocks of machines differ.
    """

    enough_disk: float = 0.05
    audit_entries: int = 1_000
    waiting: timedelta = timedelta(minutes=10)
    silence: timedelta = timedelta(minutes=1)


def judged(name: str, ok: bool, found: tuple[str, str], remedy: tuple[str, str]) -> Finding:
    """Return a finding; its remedy, Chinese and English, only where it is not ok."""
    return Finding(name, ok, *found, *(("", "") if ok else remedy))
