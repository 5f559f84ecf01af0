"""Where models are kept: versions that never change, and which of them is in use.

Layout::

    models/
      churn/
        states.json                   version -> challenger | champion | retired, and the history
        3f2a.../card.json             the model card
        3f2a.../model.json            features, logistic weights, calibration, training distribution
        3f2a.../trees.txt             boosted trees in LightGBM's own text, if there are any
        3f2a.../manifest.json         SHA-256 of each file

A version's id is the hash of its content. A version appears by the renaming of a finished folder,
so a reader sees all of it or nothing, whenever the writer is killed. No file holds code: nothing
is pickled.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import get_ident
from typing import Any

from bihuan.kernel import Clock, DefectError, UserError, file_lock, hash_id, write_atomically
from bihuan.kernel.files import sync_folder
from bihuan.model.card import ModelCard
from bihuan.model.score import BuiltModel

FORMAT = 1
STAGING = ".staging"


class ModelNotFoundError(UserError):
    """The registry has no such model, no such version, or no champion of it."""


class ModelDamagedError(UserError):
    """A saved model's files are not what was saved."""


class ModelState(enum.StrEnum):
    """What a version is used for."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One version in the registry.

    Parameters
    ----------
    name, version
        Which.
    state
        What it is used for.
    created_at
        ISO moment of saving.
    learner
        Learner chosen.
    auc
        On the rows that judged it.
    """

    name: str
    version: str
    state: ModelState
    created_at: str
    learner: str
    auc: float


class ModelRegistry:
    """A folder of model versions.

    Parameters
    ----------
    folder
        Made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, model: BuiltModel, *, clock: Clock) -> ModelEntry:
        """Keep a model as a new challenger; saving the same model again changes nothing.

        Parameters
        ----------
        model
            What to keep; its card gets its version and the moment.
        clock
            Stamps the moment.

        Returns
        -------
        ModelEntry
        """
        name = _require_name(model.card.name)
        files = _files_of(model)
        version = _version_of(model, files)
        target = self.folder / name / version
        if not target.exists():
            card = replace(model.card, version=version, created_at=clock.now().isoformat())
            files["card.json"] = _json_bytes(card.to_dict())
            self._settle(files, target)
        return self._entry(name, version)

    def load(self, name: str, version: str | None = None) -> BuiltModel:
        """Return a version of a model, the champion if none is named.

        Raises
        ------
        ModelNotFoundError
            If there is no such version, or no champion yet.
        ModelDamagedError
            If a file is missing or changed since it was saved.
        """
        wanted = self.get_champion(name).version if version is None else version
        folder = self._folder_of(name, wanted)
        files = _read_checked(folder)
        card = ModelCard.from_dict(json.loads(files["card.json"]))
        trees = files.get("trees.txt", b"").decode()
        return BuiltModel.from_files(card, json.loads(files["model.json"]), trees)

    def list(self, name: str | None = None) -> tuple[ModelEntry, ...]:
        """Return the versions of a model, or of all models, oldest first."""
        names = [name] if name is not None else sorted(_folders(self.folder))
        entries = [
            self._entry(one, version) for one in names for version in _folders(self.folder / one)
        ]
        return tuple(sorted(entries, key=lambda entry: (entry.created_at, entry.version)))

    def find_champion(self, name: str) -> ModelEntry | None:
        """Return the version in use, or None."""
        champions = [x for x in self.list(name) if x.state is ModelState.CHAMPION]
        return champions[0] if champions else None

    def get_champion(self, name: str) -> ModelEntry:
        """Return the version in use.

        Raises
        ------
        ModelNotFoundError
            If no version was promoted yet.
        """
        champion = self.find_champion(name)
        if champion is None:
            have = ", ".join(entry.version for entry in self.list(name)) or "none"
            raise ModelNotFoundError(
                f"Model '{name}' has no champion (versions: {have}).",
                remedy="Promote a version, or name the version to load.",
                zh=f"模型 {name} 还没有在用版本（现有：{have}）。请先启用一个版本，或指明版本号。",
            )
        return champion

    def promote(self, name: str, version: str, *, clock: Clock, by: str, reason: str) -> None:
        """Make a version the champion; the champion so far is retired in the same step.

        Parameters
        ----------
        name, version
            Which; may be a retired one, to go back.
        clock
            Stamps the change.
        by, reason
            Who decided and why; kept in the history.
        """
        self._change(name, version, ModelState.CHAMPION, _Note(clock, by, reason))

    def retire(self, name: str, version: str, *, clock: Clock, by: str, reason: str) -> None:
        """Take a version out of use; see :meth:`promote` for the parameters."""
        self._change(name, version, ModelState.RETIRED, _Note(clock, by, reason))

    def history(self, name: str) -> tuple[Mapping[str, str], ...]:
        """Return the changes of state, oldest first: at, version, state, by, reason."""
        return tuple(self._states(name)["history"])

    def sweep(self) -> int:
        """Remove what a killed writer left; return how many folders. No writer may be at work."""
        left = list((self.folder / STAGING).glob("*"))
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        return len(left)

    def _settle(self, files: Mapping[str, bytes], target: Path) -> None:
        staging = self.folder / STAGING / hash_id(target.name, os.getpid(), get_ident())
        shutil.rmtree(staging, ignore_errors=True)  # of an earlier process of the same number
        staging.mkdir(parents=True)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        for name, content in files.items():
            write_atomically(staging / name, content)
        manifest = _json_bytes({"format": FORMAT, "files": digests})
        write_atomically(staging / "manifest.json", manifest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            staging.rename(target)
        except OSError:  # another process has just put the same content there
            if not target.exists():
                raise
            shutil.rmtree(staging)
        sync_folder(target.parent)

    def _change(self, name: str, version: str, state: ModelState, note: _Note) -> None:
        self._folder_of(name, version)
        with file_lock(self.folder / f".{name}.lock"):
            content = self._states(name)
            versions = content["versions"]
            changes = {version: state.value}
            if state is ModelState.CHAMPION:
                for other, old in versions.items():
                    if old == ModelState.CHAMPION and other != version:
                        changes[other] = ModelState.RETIRED.value
            for changed, value in sorted(changes.items(), key=lambda item: item[1], reverse=True):
                versions[changed] = value
                content["history"].append(note.to_dict(changed, value))
            write_atomically(self._states_path(name), _json_bytes(content))

    def _states(self, name: str) -> dict[str, Any]:
        path = self._states_path(name)
        if not path.exists():
            return {"versions": {}, "history": []}
        content: dict[str, Any] = json.loads(path.read_bytes())
        return content

    def _states_path(self, name: str) -> Path:
        return self.folder / _require_name(name) / "states.json"

    def _folder_of(self, name: str, version: str) -> Path:
        have = _folders(self.folder / _require_name(name))
        if version not in have:
            known = ", ".join(have) or "none"
            raise ModelNotFoundError(
                f"There is no version '{version}' of model '{name}' (has: {known}).",
                remedy="Choose one of the versions named, or build the model.",
                zh=f"模型 {name} 没有版本 {version}（现有：{known}）。",
            )
        return self.folder / name / version

    def _entry(self, name: str, version: str) -> ModelEntry:
        folder = self._folder_of(name, version)
        try:
            card = json.loads((folder / "card.json").read_bytes())
        except (OSError, ValueError) as error:
            raise _damaged(folder, str(error)) from error
        # A version whose writer was killed before any promotion has no entry: a challenger.
        state = self._states(name)["versions"].get(version, ModelState.CHALLENGER)
        return ModelEntry(
            name,
            version,
            ModelState(state),
            card["created_at"],
            card["learner"],
            card["metrics"]["auc"]["value"],
        )


@dataclass(frozen=True, slots=True)
class _Note:
    """Who changes a state, when and why."""

    clock: Clock
    by: str
    reason: str

    def to_dict(self, version: str, state: str) -> dict[str, str]:
        return {
            "at": self.clock.now().isoformat(),
            "version": version,
            "state": state,
            "by": self.by,
            "reason": self.reason,
        }


def _files_of(model: BuiltModel) -> dict[str, bytes]:
    content = model.to_files()
    files = {"model.json": _json_bytes(content["model"])}
    if content["trees"]:
        files["trees.txt"] = content["trees"].encode()
    return files


def _version_of(model: BuiltModel, files: Mapping[str, bytes]) -> str:
    card = model.card.to_dict()
    for name in ("version", "created_at", "libraries"):  # the same model, seen at another time
        del card[name]
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return hash_id(json.loads(_json_bytes(card)), digests)


def _read_checked(folder: Path) -> dict[str, bytes]:
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        files = {name: (folder / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder, str(error)) from error
    if manifest.get("format") != FORMAT:
        raise ModelDamagedError(
            f"Model version {folder.name} has format {manifest.get('format')}, expected {FORMAT}.",
            remedy="Read it with the release that wrote it, or build the model again.",
            zh=f"模型版本 {folder.name} 的格式与本版本不符，请重新建模。",
        )
    for name, digest in manifest["files"].items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise _damaged(folder, f"{name} has changed")
    return files


def _damaged(folder: Path, what: str) -> ModelDamagedError:
    return ModelDamagedError(
        f"Model version {folder.name} is damaged: {what}.",
        remedy="Restore the folder from a backup, or build the model again.",
        zh=f"模型版本 {folder.name} 已损坏：{what}。请从备份恢复或重新建模。",
    )


def _folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(x.name for x in folder.iterdir() if x.is_dir() and x.name[0] != "."))


def _require_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ModelNotFoundError(
            f"'{name}' is no name for a model.",
            remedy="Use lower-case letters, digits and single underscores.",
            zh=f"{name} 不能作为模型名，请使用小写字母、数字和下划线。",
        )
    return name


def _json_bytes(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DefectError(f"A model holds something that JSON cannot say: {error}.") from error
    return text.encode()
