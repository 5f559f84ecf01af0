"""Learning many models of the catalogue in one run, each recorded as soon as it is known.

Features and answers of all chosen models are read once per kind of subject: the features at one
date, the answers at a later one, of a sample of the subjects that the hash of the id draws. What
cannot be learnt is a state with its reason, not an end of the run. A run that was stopped goes on
where it was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.audience import Node, select_flags, tags_of
from bihuan.kernel import UserError, canonical_json, file_lock
from bihuan.model import (
    BoundModel,
    LabelledFrame,
    ModelRegistry,
    TooFewPositivesError,
    build_model,
)
from bihuan.step.rooms import Rooms
from bihuan.tag import TagNotDerivedError, TagTable, read_tags

LEAST_CASES = 30
"""Rows of either answer without which nothing is learnt."""


@dataclass(frozen=True, slots=True)
class ModelRun:
    """What became of one model.

    Parameters
    ----------
    model, order_id
        Which, and what was to be learnt.
    as_of
        Date of the answers, as ISO text.
    state
        ``done``, ``not_estimable`` or ``failed``.
    reason
        Why it is not done, by language; empty where it is.
    version
        In the registry; empty where not done.
    rows, positives
        Subjects learnt from, and those with the answer yes.
    auc
        On rows that had no part in learning; None where not done.
    seconds
        Time spent on it.
    at
        ISO moment, UTC.
    """

    model: str
    order_id: str
    as_of: str
    state: str
    at: str
    reason: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    rows: int = 0
    positives: int = 0
    auc: float | None = None
    seconds: float = 0.0


class RunRecord:
    """A file to which what became of models is only ever added.

    Parameters
    ----------
    path
        A file of JSON lines; made if absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, run: ModelRun) -> None:
        """Add one; it is on disk when this returns."""
        with file_lock(self._path.with_suffix(".lock")), self._path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)  # the half line of a killed writer
            file.write(canonical_json(asdict(run)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> tuple[ModelRun, ...]:
        """Return all, oldest first."""
        if not self._path.exists():
            return ()
        content = self._path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        return tuple(ModelRun(**json.loads(line)) for line in lines)

    def newest(self) -> dict[str, ModelRun]:
        """Return the newest of each model."""
        return {run.model: run for run in self.read()}


@dataclass(frozen=True)
class _Months:
    """What the models of one kind of subject read: two dates, the same subjects by id."""

    seen: date
    answered: date
    rows: pa.Table  # id and features at the first
    population: Mapping[str, NDArray[np.bool_]]
    label: Mapping[str, NDArray[np.bool_]]
    pending: Mapping[str, Mapping[str, str]]


def run_catalogue(
    rooms: Rooms,
    models: Sequence[BoundModel],
    as_of: date,
    *,
    record: RunRecord,
    sample_rows: int = 50_000,
    again: bool = False,
) -> tuple[ModelRun, ...]:
    """Learn models, keep them in the registry, and record what became of each.

    Parameters
    ----------
    rooms
        The operator; its progress is told after each model and may cancel between two.
    models
        Which to learn.
    as_of
        Date of the answers; the features are of the date ``lead_months`` tag dates before.
    record
        Where the outcome of each model is kept.
    sample_rows
        About so many subjects at most are learnt from, drawn by a hash of the id.
    again
        Learn also what is recorded as done for this date and this order.

    Returns
    -------
    tuple[ModelRun, ...]
        One per model, in the order given; those recorded before come from the record.

    Raises
    ------
    Cancelled
        Between two models; those that are done stay recorded.
    """
    known = {(r.order_id, r.as_of): r for r in record.read() if r.state == "done"}
    registry = ModelRegistry(rooms.models)
    months: dict[tuple[str, int], _Months | UserError] = {}
    runs = []
    with rooms.progress.task("learn models", total=len(models), unit="models") as task:
        for bound in models:
            task.advance(0)
            done = known.get((bound.order_id, as_of.isoformat()))
            if done is None or again:
                key = (bound.model.subject.value, bound.model.lead_months)
                if key not in months:  # one reading serves all models of a subject
                    alike = [m for m in models if key == (m.model.subject, m.model.lead_months)]
                    months[key] = _read_months(rooms, alike, as_of, sample_rows)
                done = _learn(rooms, registry, bound, months[key], as_of)
                record.append(done)
            runs.append(done)
            task.advance()
    return tuple(runs)


def _read_months(
    rooms: Rooms, models: Sequence[BoundModel], as_of: date, sample_rows: int
) -> _Months | UserError:
    subject, lead = models[0].model.subject, models[0].model.lead_months
    view = rooms.lake.view()
    dates = [day for day in view.dates(subject.value) if day <= as_of]
    try:
        if len(dates) <= lead or dates[-1] != as_of:
            raise TagNotDerivedError(
                f"There are no {subject} rows both at {as_of} and {lead} month(s) before.",
                zh=f"{subject} 在 {as_of} 及其前 {lead} 个月没有两期数据。",
            )
        seen = dates[-1 - lead]
        before = read_tags(view, rooms.dictionary, subject, seen)
        after = read_tags(view, rooms.dictionary, subject, as_of)
    except TagNotDerivedError as error:
        return error
    wanted = sorted({name for m in models for name in m.features if name in before.fields})
    part = max(1, -(-before.rows // sample_rows))
    population = _flags(rooms, before, {m.model.name: m.population for m in models}, part)
    label = _flags(rooms, after, {m.model.name: m.label for m in models}, part)
    query, sources = before.relation(wanted)
    rows = rooms.engine.query(_drawn(query, before.id_column, part), sources)
    # who is still there a month later, in one order
    at = pc.index_in(rows[before.id_column], value_set=label.ids).to_numpy()
    stays = ~np.isnan(at)
    places = at[stays].astype(np.int64)
    first = pc.index_in(rows[before.id_column], value_set=population.ids).to_numpy()
    return _Months(
        seen=seen,
        answered=as_of,
        rows=rows.filter(pa.array(stays)),
        population={n: flags[first[stays].astype(np.int64)] for n, flags in population.of.items()},
        label={name: flags[places] for name, flags in label.of.items()},
        pending={**before.pending, **after.pending},
    )


@dataclass(frozen=True)
class _Flags:
    ids: pa.ChunkedArray
    of: Mapping[str, NDArray[np.bool_]]


def _flags(rooms: Rooms, tags: TagTable, nodes: Mapping[str, Node], part: int) -> _Flags:
    """Say of each drawn subject which trees hold; trees over tags without values are left out."""
    known = {n: node for n, node in nodes.items() if not set(tags_of(node)) - set(tags.fields)}
    query, sources = select_flags({f"e{i}": node for i, node in enumerate(known.values())}, tags)
    table = rooms.engine.query(_drawn(query, tags.id_column, part), sources)
    flags = {name: table.column(i + 1).to_numpy().astype(np.bool_) for i, name in enumerate(known)}
    return _Flags(table.column(0), flags)


def _drawn(query: exp.Query, id_column: str, part: int) -> exp.Select:
    """Take every so-manieth subject, the same ones at every date, ordered by id."""
    id_ = exp.column(id_column, table="drawn", quoted=True)
    whole = exp.select("*").from_(query.subquery("drawn"))
    if part > 1:
        share = exp.Mod(this=exp.func("hash", id_.copy()), expression=exp.Literal.number(part))
        whole = whole.where(share.eq(0))
    return whole.order_by(id_)


def _learn(
    rooms: Rooms,
    registry: ModelRegistry,
    bound: BoundModel,
    months: _Months | UserError,
    as_of: date,
) -> ModelRun:
    started = time.perf_counter()

    def outcome(state: str, **found: object) -> ModelRun:
        return ModelRun(
            model=bound.model.name,
            order_id=bound.order_id,
            as_of=as_of.isoformat(),
            state=state,
            at=rooms.clock.now().isoformat(),
            seconds=round(time.perf_counter() - started, 3),
            **found,  # type: ignore[arg-type]
        )

    if isinstance(months, UserError):
        return outcome("not_estimable", reason=_words(months))
    if lack := _lack(bound, months):
        return outcome("not_estimable", reason=lack)
    chosen = months.population[bound.model.name]
    label = months.label[bound.model.name][chosen]
    figures = {"rows": len(label), "positives": int(label.sum())}
    if min(figures["positives"], figures["rows"] - figures["positives"]) < LEAST_CASES:
        return outcome("not_estimable", reason=_too_few(figures), **figures)
    names = [name for name in bound.features if name in months.rows.column_names]
    rows = months.rows.filter(pa.array(chosen))
    frame = LabelledFrame(
        ids=rows.column(0),
        features=rows.select(names),
        label=label,
        as_of=months.seen,
        lineage={"order": bound.order_id, "answered": months.answered.isoformat()},
    )
    try:
        model = build_model(frame, bound.model.spec, seed=rooms.seed)
        entry = registry.save(model, clock=rooms.clock)
    except TooFewPositivesError as error:
        return outcome("not_estimable", reason=_words(error), **figures)
    except UserError as error:
        return outcome("failed", reason=_words(error), **figures)
    auc = round(model.card.metrics.auc.value, 4)
    return outcome("done", version=entry.version, auc=auc, **figures)


def _lack(bound: BoundModel, months: _Months) -> Mapping[str, str]:
    """Say which tags without values keep a model from being learnt; empty if none does."""
    name = bound.model.name
    if name in months.population and name in months.label:
        if any(feature in months.rows.column_names for feature in bound.features):
            return {}
        lacking: Iterable[str] = bound.features[:3]
    else:
        named = (*tags_of(bound.label), *tags_of(bound.population))
        lacking = [tag for tag in dict.fromkeys(named) if tag in months.pending]
    reasons = {tag: months.pending.get(tag, {}) for tag in lacking}
    return {
        "en": "Tags without values: "
        + "; ".join(f"{tag}: {reason.get('en', '')}" for tag, reason in reasons.items()),
        "zh": "标签没有值："
        + "；".join(f"{tag}：{reason.get('zh', '')}" for tag, reason in reasons.items()),
    }


def _too_few(figures: Mapping[str, int]) -> Mapping[str, str]:
    yes, rows = figures["positives"], figures["rows"]
    return {
        "en": f"Of {rows:,} subjects {yes:,} have the answer yes; at least {LEAST_CASES} of either "
        "answer are needed.",
        "zh": f"{rows} 个对象中有 {yes} 个发生，正反两类均需至少 {LEAST_CASES} 个。",
    }


def _words(error: UserError) -> Mapping[str, str]:
    return {"en": error.message, "zh": error.text("zh")}
