"""What the tag desk keeps: candidates, trials, the record; and changes that happen whole.

A decision may touch several files and adds to the record. What shall be is first written down in
``pending.json``, then done, then struck off: whoever comes next after a crash finishes it, so the
files and the record never tell different stories.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bihuan.kernel import UserError, canonical_json, file_lock, write_atomically
from bihuan.kernel.files import sync_folder
from bihuan.tag.definition import TagDefinition
from bihuan.tag.desk.life import TagHistory, Transition
from bihuan.tag.desk.trial import TrialReport
from bihuan.tag.load import load_definitions


class DeskConflictError(UserError):
    """A file was changed by somebody else while a decision was being written."""


@dataclass(frozen=True, slots=True)
class DeskStore:
    """The desk's folder beside the tag files.

    Parameters
    ----------
    folder
        The desk's own: ``candidates/``, ``trials/``, ``transitions.jsonl``, ``pending.json``.
    tags
        Folder of the tag files that are in force.
    library
        Tags that are in force while ``tags`` holds no file; copied there before the first change.
    """

    folder: Path
    tags: Path
    library: Path

    @property
    def history(self) -> TagHistory:
        """The record of every step."""
        return TagHistory(self.folder)

    @property
    def in_force(self) -> Path:
        """Folder whose tags are in force."""
        return self.tags if any(self.tags.glob("*.yaml")) else self.library

    def candidate_path(self, name: str) -> Path:
        """Return where a candidate's definition lies."""
        return self.folder / "candidates" / f"{name}.yaml"

    def candidates(self) -> dict[str, TagDefinition]:
        """Return the tags and new versions that are not in force yet, by name."""
        folder = self.folder / "candidates"
        return {t.name: t for t in load_definitions(folder)} if folder.is_dir() else {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the desk alone, after finishing what a killed writer left undone."""
        with file_lock(self.folder / ".desk.lock"):
            self._finish()
            yield

    def adopt_library(self) -> None:
        """Copy the sample tags into the workspace, all or none, if it has none of its own."""
        if any(self.tags.glob("*.yaml")):
            return
        staging = self.folder / ".adopted"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        if self.tags.is_dir():
            shutil.copytree(self.tags, staging, dirs_exist_ok=True)
        for file in sorted(self.library.glob("*.yaml")):
            shutil.copyfile(file, staging / file.name)
        # the folder holds no tag file, so whoever reads in between still reads the library
        shutil.rmtree(self.tags, ignore_errors=True)
        staging.rename(self.tags)
        sync_folder(self.tags.parent)

    def write(self, files: Mapping[Path, str | None], records: Sequence[Transition]) -> None:
        """Change files (None removes one) and add to the record: all of it or nothing.

        Raises
        ------
        DeskConflictError
            If, after a crash, a file is neither what it was nor what it shall be.
        """
        plan = {
            "files": [
                {
                    "path": os.path.relpath(path, self.folder),
                    "before": _digest(path),
                    "after": text,
                }
                for path, text in files.items()
            ],
            "records": [asdict(record) for record in records],
            "known": len(self.history.read()),
        }
        write_atomically(self._pending, canonical_json(plan).encode())
        self._finish()

    @property
    def _pending(self) -> Path:
        return self.folder / "pending.json"

    def _finish(self) -> None:
        if not self._pending.exists():
            return
        plan = json.loads(self._pending.read_bytes())
        for file in plan["files"]:
            path, after = self.folder / file["path"], file["after"]
            wanted = None if after is None else hashlib.sha256(after.encode()).hexdigest()
            found = _digest(path)
            if found == wanted:
                continue
            if found != file["before"]:
                raise DeskConflictError(
                    f"{path.name} was changed while a decision was being written to it.",
                    remedy=f"Compare it with {self._pending}, settle it, and remove that file.",
                    zh=f"{path.name} 在写入决定期间被他人修改，请对照 {self._pending} 处理后"
                    "删除该文件。",
                )
            if after is None:
                path.unlink()
                sync_folder(path.parent)
            else:
                write_atomically(path, after.encode())
        records = [Transition(**record) for record in plan["records"]]
        written = self.history.read()[plan["known"] :]
        self.history.extend([record for record in records if record not in written])
        self._pending.unlink()
        sync_folder(self.folder)

    def save_trial(self, report: TrialReport) -> None:
        """Keep the report of a trial."""
        path = self.folder / "trials" / report.tag / f"{report.trial_id}.json"
        write_atomically(path, canonical_json(asdict(report)).encode())

    def trials(self, name: str) -> tuple[TrialReport, ...]:
        """Return the trials of a tag, oldest first."""
        files = (self.folder / "trials" / name).glob("*.json")
        found = [TrialReport.from_dict(json.loads(file.read_bytes())) for file in files]
        return tuple(sorted(found, key=lambda report: (report.at, report.trial_id)))


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
