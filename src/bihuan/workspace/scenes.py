"""Three ways to get an audience: by the clock, by a saved filter, by exploring."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from bihuan.audience import (
    AudienceSnapshot,
    Explanation,
    FilterForm,
    Resumed,
    Scene,
    SceneLog,
    SceneRun,
    SceneStatus,
    UnknownCodeError,
    bind,
    load_form,
    load_scene,
    parse,
    resume_scene,
    run_due,
    scene_status,
    take_snapshot,
)
from bihuan.data import write_csv, write_excel
from bihuan.kernel import UserError, canonical_json, file_lock, hash_id, write_atomically

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

Day: TypeAlias = date | str
# inside a class that has a method ``list`` the word means that method
Names: TypeAlias = list[str]
Runs: TypeAlias = list[SceneRun]
Statuses: TypeAlias = list[SceneStatus]
Entries: TypeAlias = list[SceneRun | Resumed]
Dates: TypeAlias = list[date]
FORMATS = (".csv", ".parquet", ".xlsx")


class Scenes:
    """Fixed scenes (固化场景): ``scenes/<name>.yaml``, run by the clock.

    Parameters
    ----------
    workspace
        Where definitions, tags and snapshots are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    def list(self) -> Names:
        """Return the names of the scenes, sorted."""
        return sorted(path.stem for path in self._ws.layout.definitions("scenes").glob("*.yaml"))

    def get(self, name: str) -> Scene:
        """Return a scene; raise :class:`UserError` if there is no such file or it is wrong."""
        return load_scene(self._ws.layout.find_definition("scenes", name))

    def add(self, name: str, text: str) -> Scene:
        """Write a new scene after checking schedule, audience and tags.

        Parameters
        ----------
        name
            Name of its file.
        text
            The YAML.

        Raises
        ------
        UserError
            If there is one of that name, or something is wrong; then no file is left.
        """
        return _add(self._ws.layout.definitions("scenes"), name, text, load_scene, self._check)

    def run_due(self, now: datetime | None = None) -> Runs:
        """Run every scene's times missed since it was last settled, each once.

        Parameters
        ----------
        now
            The present moment; None: the workspace's clock.

        Returns
        -------
        list of SceneRun
            What became of each; a scene whose file is wrong does not hold up the others.
        """
        moment = now or self._ws.clock.now()
        runs: list[SceneRun] = []
        for name, scene in self._readable():
            runs += run_due(scene, self._log(name), moment, self._dates, self._take)
        return runs

    def status(self, now: datetime | None = None) -> Statuses:
        """Tell of each scene the newest good count with its date, and how late it is."""
        moment = now or self._ws.clock.now()
        return [scene_status(scene, self._log(name), moment) for name, scene in self._readable()]

    def broken(self) -> dict[str, str]:
        """Return the scenes whose file cannot be read, with what is wrong in it."""
        found = {}
        for name in self.list():
            try:
                self.get(name)
            except UserError as error:
                found[name] = str(error)
        return found

    def history(self, name: str) -> Entries:
        """Return what became of every time at which a scene was due, oldest first."""
        return self._log(name).entries()

    def resume(self, name: str, *, who: str, why: str) -> Resumed:
        """Let a scene that stopped after a failure go on, on record."""
        return resume_scene(self._log(name), self.get(name), self._ws.clock.now(), who=who, why=why)

    def _readable(self) -> Iterator[tuple[str, Scene]]:
        broken = self.broken()
        for name in self.list():
            if name not in broken:
                yield name, self.get(name)

    def _log(self, name: str) -> SceneLog:
        return SceneLog(self._ws.layout.root / "runs" / "scenes" / f"{name}.jsonl")

    def _check(self, scene: Scene) -> None:
        bind(scene.audience, self._ws.dictionary.schema(scene.subject))

    def _dates(self, scene: Scene) -> Dates:
        return derived_dates(self._ws, scene.subject)

    def _take(self, scene: Scene, as_of: date) -> AudienceSnapshot:
        return self._ws.take_snapshot(scene.text, as_of, subject=scene.subject)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a filled-in filter selects.

    Parameters
    ----------
    text
        The audience in words.
    members, base
        Its size and what it is chosen from.
    explanation
        What each condition does.
    """

    text: str
    members: int
    base: int
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Extract:
    """A list that was taken out, on record.

    Parameters
    ----------
    form, values, text
        Which filter, how it was filled in, and the audience that came out.
    as_of
        Date of the tags.
    who, why, at
        Who took it, for what, when.
    rows
        Customers in it.
    snapshot_id
        The frozen members.
    file, sha256
        Name of the file and the digest of its content.
    """

    form: str
    values: Mapping[str, Any]
    text: str
    as_of: date
    who: str
    why: str
    at: datetime
    rows: int
    snapshot_id: str
    file: str
    sha256: str


Extracts: TypeAlias = list[Extract]


class Filters:
    """Self-service filters (自助配置筛选): ``filters/<name>.yaml``, filled in by a clerk.

    Parameters
    ----------
    workspace
        Where definitions, tags and snapshots are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    def list(self) -> Names:
        """Return the names of the filters, sorted."""
        return sorted(path.stem for path in self._ws.layout.definitions("filters").glob("*.yaml"))

    def get(self, name: str) -> FilterForm:
        """Return a filter; raise :class:`UserError` if there is no such file or it is wrong."""
        return load_form(self._ws.layout.find_definition("filters", name))

    def add(self, name: str, text: str) -> FilterForm:
        """Write a new filter after checking its sentence, its blanks and its tags.

        Parameters
        ----------
        name
            Name of its file.
        text
            The YAML.
        """
        return _add(self._ws.layout.definitions("filters"), name, text, load_form, self._check)

    def preview(self, name: str, as_of: Day, **values: object) -> Preview:
        """Count what a filter selects as filled in.

        Parameters
        ----------
        name
            The filter.
        as_of
            Date of the tags.
        **values
            By name of the blank; those left out take their default.
        """
        form = self.get(name)
        text = form.fill(values)
        explored = self._ws.explore(as_of, subject=form.subject)
        told = explored.explain(text)
        return Preview(text, told.members, told.base, told)

    def extract(
        self, name: str, as_of: Day, path: Path | str, *, who: str, why: str, **values: object
    ) -> Extract:
        """Write the members of a filled-in filter into a file, and put it on record.

        Parameters
        ----------
        name
            The filter.
        as_of
            Date of the tags.
        path
            Ends in ``.csv``, ``.parquet`` or ``.xlsx``; replaced if it is there.
        who, why
            Who takes it and for what.
        **values
            By name of the blank; those left out take their default.

        Returns
        -------
        Extract
            As recorded; the record is written before the file is handed out.
        """
        target = Path(path)
        if target.suffix not in FORMATS or not who.strip() or not why.strip():
            raise UserError(
                "An extract needs a file that ends in .csv, .parquet or .xlsx, who and why.",
                remedy="Give all three.",
                zh="导出须指定 .csv、.parquet 或 .xlsx 文件，并说明导出人与用途。",
            )
        form = self.get(name)
        text = form.fill(values)
        tags = self._ws.tags(as_of, subject=form.subject)
        snapshot = take_snapshot(
            parse(text), tags, lake=self._ws.lake, engine=self._ws.engine, clock=self._ws.clock
        )
        rows = snapshot.members(form.columns, tags=tags, engine=self._ws.engine)
        titles = {tag: tags.fields[tag].title[self._ws.settings.language] for tag in form.columns}
        staged = self._ws.layout.root / "runs" / "staging" / f"{snapshot.id}{target.suffix}"
        _write(rows, staged, titles)
        content = staged.read_bytes()
        staged.unlink()
        extract = Extract(
            form=name,
            values={key: _plain(value) for key, value in values.items()},
            text=text,
            as_of=tags.as_of,
            who=who.strip(),
            why=why.strip(),
            at=self._ws.clock.now(),
            rows=rows.num_rows,
            snapshot_id=snapshot.id,
            file=target.name,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self._record(extract)
        write_atomically(target, content)
        return extract

    def extracts(self) -> Extracts:
        """Return every list that was taken out, oldest first."""
        found = []
        for path in self._records().glob("*.json"):
            raw = json.loads(path.read_bytes())
            raw["as_of"] = date.fromisoformat(raw["as_of"])
            raw["at"] = datetime.fromisoformat(raw["at"])
            found.append((path.name, Extract(**raw)))
        return [extract for _, extract in sorted(found, key=lambda pair: pair[0])]

    def _records(self) -> Path:
        return self._ws.layout.root / "runs" / "extracts"

    def _record(self, extract: Extract) -> None:
        with file_lock(self._records() / ".lock"):
            number = 1 + len(list(self._records().glob("*.json")))
            path = self._records() / f"{number:08d}-{hash_id(asdict(extract))}.json"
            write_atomically(path, canonical_json(asdict(extract)).encode())

    def _check(self, form: FilterForm) -> None:
        with suppress(UnknownCodeError):  # the example's codes are made up
            bind(form.example(), self._ws.dictionary.schema(form.subject))
        for column in form.columns:
            self._ws.dictionary.get(column)


def derived_dates(workspace: Workspace, subject: str) -> list[date]:
    """Return the dates at which tags of a subject were derived, oldest first."""
    view = workspace.view
    prefix = f"tag__{subject}__"
    return sorted(
        {day for table in view.tables if table.startswith(prefix) for day in view.dates(table)}
    )


_Definition = TypeVar("_Definition", Scene, FilterForm)


def _add(
    folder: Path,
    name: str,
    text: str,
    load: Callable[[Path], _Definition],
    check: Callable[[_Definition], None],
) -> _Definition:
    """Write a definition file that is whole and new, or none."""
    if not name.isidentifier() or not name.islower():
        raise UserError(
            f"'{name}' is no name for a file.",
            remedy="Use lower-case letters, digits and _.",
            zh=f"“{name}”不能作为名称，请使用小写字母、数字和下划线。",
        )
    path = folder / f"{name}.yaml"
    draft = folder / ".draft" / f"{name}.yaml"
    with file_lock(folder / ".lock"):
        if path.exists():
            raise UserError(
                f"There is a '{name}.yaml' in {folder.name}/ already.",
                remedy="Choose another name, or edit that file.",
                zh=f"{folder.name}/ 中已有 {name}.yaml，请更换名称或直接编辑该文件。",
            )
        write_atomically(draft, text.encode())
        try:
            found = load(draft)
            check(found)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return found


def _write(rows: pa.Table, path: Path, titles: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        write_csv(rows, path)
    elif path.suffix == ".xlsx":
        write_excel(rows, path, titles=titles)
    else:
        buffer = io.BytesIO()
        pq.write_table(rows, buffer)
        write_atomically(path, buffer.getvalue())


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float)) else str(value)
