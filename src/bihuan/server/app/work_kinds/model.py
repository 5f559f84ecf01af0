"""Kinds about models: learn one, or score with one that is there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pyarrow as pa
from pydantic import Field

from bihuan.audience import bind, read_flags
from bihuan.model import ModelEntry, publish_scores
from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.work_kinds.day import NoDataError, day_of_tags
from bihuan.step import load_score_order
from bihuan.workspace import Workspace


class Train(Arguments):
    """A model learnt, registered, and the customers scored."""

    model: str = Field(min_length=1, max_length=64, description="Name of a file in models/.")
    as_of: date | None = Field(None, description="None: the newest date of the tags.")


class Score(Arguments):
    """Customers scored by a registered model."""

    model: str = Field(min_length=1, max_length=64, description="Name of a file in models/.")
    version: str | None = Field(
        None, max_length=64, description="None: the version in use, else the newest."
    )
    as_of: date | None = Field(None, description="None: the newest date of the tags.")


def run_train(context: JobContext, arguments: Train) -> Mapping[str, Any]:
    """Learn the model, register it as a challenger, score the customers."""
    day = day_of_tags(context, arguments.as_of)

    def learn() -> dict[str, Any]:
        model, metrics = context.workspace.learn(arguments.model, day)
        newest = context.workspace.registry.list(model.card.name)[-1]
        auc = metrics.auc
        return {"version": newest.version, "learner": newest.learner,
                "auc": auc.value, "auc_low": auc.low, "auc_high": auc.high}  # fmt: skip

    learnt: dict[str, Any] = context.step(
        "learn", {"zh": "训练模型", "en": "Learn the model"}, learn
    )
    return {"model": arguments.model, "as_of": day.isoformat(), **learnt}


def run_score(context: JobContext, arguments: Score) -> Mapping[str, Any]:
    """Score the model's population as of a date, then derive the tags that wait for it."""
    day = day_of_tags(context, arguments.as_of)
    scored: dict[str, Any] = context.step(
        "score", {"zh": "评分", "en": "Score"},
        lambda: _score(context.workspace, arguments, day),
    )  # fmt: skip
    context.step(
        "derive", {"zh": "生成标签", "en": "Derive the tags"},
        lambda: context.workspace.refresh_tags(day).subjects,
    )  # fmt: skip
    return {"model": arguments.model, "as_of": day.isoformat(), **scored}


def _score(ws: Workspace, arguments: Score, day: date) -> dict[str, Any]:
    order = load_score_order(ws.layout.find_definition("models", arguments.model))
    entry = _version(ws, order.spec.name, arguments.version)
    model = ws.registry.load(order.spec.name, entry.version)
    tags = ws.tags(day)
    _, flags = read_flags([bind(order.population, tags.fields)], tags, engine=ws.engine)
    rows = tags.read(ws.engine, list(order.features)).filter(pa.array(flags[:, 0]))
    scores = model.score(rows.select(list(order.features)), as_of=day)
    publish_scores(
        ws.lake, order.spec.name, rows["customer_id"], scores, day, clock=ws.clock,
        lineage={"model_version": entry.version},
    )  # fmt: skip
    return {"version": entry.version, "customers": rows.num_rows}


def _version(ws: Workspace, name: str, version: str | None) -> ModelEntry:
    entries = ws.registry.list(name)
    if version is not None:
        entries = tuple(entry for entry in entries if entry.version == version)
    if not entries:
        raise NoDataError(
            f"Model '{name}' has no version {version or 'yet'}.",
            remedy="Train it first.",
            zh=f"模型 {name} 还没有{'版本 ' + version if version else '任何版本'}，请先训练。",
        )
    champion = ws.registry.find_champion(name) if version is None else None
    return champion or entries[-1]


KINDS = (
    Kind("train", {"zh": "模型训练", "en": "training"}, "job.run", Train, run_train),
    Kind("score", {"zh": "模型评分", "en": "scoring"}, "job.run", Score, run_score, steps=2),
)
