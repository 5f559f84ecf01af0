"""What became of the times at which scenes were due: one line each, never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from bihuan.kernel import DefectError, canonical_json, file_lock, write_atomically

GOOD = "done"
STATES = ("done", "failed", "stale", "out_of_range", "skipped")


@dataclass(frozen=True, slots=True)
class SceneRun:
    """One time at which a scene was due, and what became of it.

    Parameters
    ----------
    scene
        Its name.
    fire_time
        When it was due, UTC.
    state
        ``done``; ``out_of_range`` (taken, but the size is implausible); ``stale`` (the tags are
        too old); ``failed``; ``skipped`` (given up for a newer time).
    ran_at
        When it was run, UTC; after ``fire_time`` by what it was late.
    attempt
        1 for the first.
    is_final
        Whether it is settled; a run that is not will be tried again.
    as_of
        Date of the tags used; None if none were.
    count, base
        Members and the base they were chosen from; None if nothing was taken.
    snapshot_id
        The frozen members.
    definition
        Hash of what the scene said.
    seconds
        How long it took.
    reason
        Why it is not ``done``, by language; empty if it is.
    fires
        Times that this line stands for; above 1 only for ``skipped``.
    """

    scene: str
    fire_time: datetime
    state: str
    ran_at: datetime
    attempt: int = 1
    is_final: bool = True
    as_of: date | None = None
    count: int | None = None
    base: int | None = None
    snapshot_id: str = ""
    definition: str = ""
    seconds: float = 0.0
    reason: Mapping[str, str] | None = None
    fires: int = 1


@dataclass(frozen=True, slots=True)
class Resumed:
    """A person let a stopped scene go on.

    Parameters
    ----------
    scene
        Its name.
    at
        When.
    who, why
        Who did it and why.
    """

    scene: str
    at: datetime
    who: str
    why: str


class SceneLog:
    """The lines of one scene.

    A killed process leaves at most an unfinished last line; it is not read, and the next line
    takes its place.

    Parameters
    ----------
    path
        The file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def locked(self) -> AbstractContextManager[None]:
        """Hold the scene against other processes; freed when the process dies."""
        return file_lock(self._path.with_suffix(".lock"))

    def entries(self) -> list[SceneRun | Resumed]:
        """Return every whole line, oldest first.

        Raises
        ------
        DefectError
            If a line is damaged.
        """
        return [self._parse(number, line) for number, line in enumerate(self._lines(), start=1)]

    def runs(self) -> list[SceneRun]:
        """Return the runs, oldest first."""
        return [entry for entry in self.entries() if isinstance(entry, SceneRun)]

    def append(self, entries: Sequence[SceneRun | Resumed]) -> None:
        """Add lines and flush them to disk; only while :meth:`locked`."""
        lines = self._lines()
        if not self._path.exists():
            write_atomically(self._path, b"")  # flushes the folder too
        end = sum(len(line) + 1 for line in lines)
        text = b""
        for number, entry in enumerate(entries, start=len(lines) + 1):
            kind = "run" if isinstance(entry, SceneRun) else "resumed"
            text += canonical_json({"number": number, "kind": kind, **asdict(entry)}).encode()
            text += b"\n"
        with self._path.open("r+b") as file:
            file.truncate(end)  # what a killed process left unfinished
            file.seek(end)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[bytes]:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        return whole.split(b"\n")[:-1]

    def _parse(self, number: int, text: bytes) -> SceneRun | Resumed:
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:
            line = {}
        if line.pop("number", None) != number:
            raise DefectError(
                f"{self._path.name} line {number} is damaged; lines before it are whole. "
                "Restore the file from a backup."
            )
        kind = line.pop("kind")
        for moment in ("fire_time", "ran_at", "at"):
            if moment in line:
                line[moment] = datetime.fromisoformat(line[moment])
        if line.get("as_of"):
            line["as_of"] = date.fromisoformat(line["as_of"])
        return SceneRun(**line) if kind == "run" else Resumed(**line)
