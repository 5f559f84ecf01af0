"""A file of numbered JSON lines, one per event, that survives a killed process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bihuan.kernel import DefectError, canonical_json, file_lock, write_atomically


class Journal:
    """Numbered JSON lines, appended under a lock and flushed to disk one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0  # bytes read so far; always behind a whole line
        self._lines = 0

    def locked(self) -> AbstractContextManager[None]:
        """Hold the journal against other processes."""
        return file_lock(self._path.with_suffix(".lock"))

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the whole lines written since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._end)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = []
        for text in whole.splitlines():
            line = self._parse(text)
            self._lines += 1
            lines.append(line)
        self._end += len(whole)
        return lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line; only under the lock and after :meth:`new_lines`."""
        if not self._path.exists():
            write_atomically(self._path, b"")  # flushes the folder too
        text = canonical_json({**line, "number": self._lines + 1}).encode() + b"\n"
        with self._path.open("r+b") as file:
            file.truncate(self._end)  # what a killed process left unfinished
            file.seek(self._end)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, text: bytes) -> dict[str, Any]:
        number = self._lines + 1
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:
            line = {}
        if line.get("number") != number:
            raise DefectError(
                f"{self._path.name} line {number} is damaged; lines before it are whole. "
                "Restore the file from a backup."
            )
        return line
