"""data → tag → model → tag: know the customers as of a date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import Everyone, Node, bind, parse, read_flags
from bihuan.kernel import UserError
from bihuan.kernel.document import Document
from bihuan.model import (
    BuiltModel,
    LabelledFrame,
    Metrics,
    ModelRegistry,
    ModelSpec,
    build_model,
    cross_validate,
    publish_scores,
)
from bihuan.step.rooms import Rooms
from bihuan.tag import DeriveReport, TagTable, derive, match_plan_lists, read_tags


class NothingToLearnError(UserError):
    """The lake has no months with both the features and the answer."""


@dataclass(frozen=True, slots=True)
class ScoreOrder:
    """What to learn from which tags, and whom to score.

    Parameters
    ----------
    spec
        The model's order form; its name is the score's name.
    label
        Boolean tag that holds the answer.
    lead_months
        How many months after its features the answer is read: 0 where one snapshot holds both
        (a customer who left this month, as he was before), 1 for "leaves next month".
    population
        Whom to learn from and to score.
    features
        Tags to learn from.
    folds
        With ``lead_months = 0`` every customer is scored by a model that has not seen him, one of
        this many.
    """

    spec: ModelSpec
    label: str
    lead_months: int
    population: Node
    features: tuple[str, ...]
    folds: int = 10


def load_score_order(path: Path) -> ScoreOrder:
    """Read an order: a YAML file with ``model:`` (the order form) and what to learn from.

    Raises
    ------
    UserError
        If a field is missing or wrong; the message names file and field.
    """
    top = Document.read(path).allow(
        "model", "label", "lead_months", "population", "features", "folds"
    )
    features = top.texts("features")
    if not features:
        raise top.refuse("features", "is empty", "Name at least one tag.")
    return ScoreOrder(
        spec=ModelSpec.parse(top.raw("model"), path.name),
        label=top.text("label"),
        lead_months=top.whole("lead_months", 1),
        population=parse(top.text("population")) if top.has("population") else Everyone(),
        features=features,
        folds=top.whole("folds", 10, low=2),
    )


def refresh_tags(rooms: Rooms, as_of: date, *, subject: str = "customer") -> DeriveReport:
    """Match the plan lists, then derive a subject's live tags; what has not changed is left."""
    match_plan_lists(
        rooms.lake, as_of, engine=rooms.engine, clock=rooms.clock, contracts=rooms.contracts
    )
    return derive(
        rooms.dictionary,
        rooms.lake,
        as_of,
        engine=rooms.engine,
        clock=rooms.clock,
        progress=rooms.progress,
        contracts=rooms.contracts,
        subject=subject,
    )


def score_customers(rooms: Rooms, order: ScoreOrder, as_of: date) -> tuple[BuiltModel, Metrics]:
    """Learn, register and score; then derive the tags that wait for the score.

    Parameters
    ----------
    rooms
        The operator.
    order
        What to learn.
    as_of
        Date whose customers are scored; tags must have been derived for it.

    Returns
    -------
    tuple
        The model, and how good it is on customers that it had not seen.

    Raises
    ------
    NothingToLearnError
        If no month has both features and answer.
    """
    newest = _part(rooms, order, as_of)
    if order.lead_months == 0:
        model, metrics, scores = _learn_within(rooms, order, newest, as_of)
    else:
        model, metrics, scores = _learn_before(rooms, order, newest, as_of)
    entry = ModelRegistry(rooms.models).save(model, clock=rooms.clock)
    publish_scores(
        rooms.lake,
        order.spec.name,
        newest["customer_id"],
        scores,
        as_of,
        clock=rooms.clock,
        lineage={"model_version": entry.version},
    )
    refresh_tags(rooms, as_of)
    return model, metrics


def _learn_within(
    rooms: Rooms, order: ScoreOrder, rows: pa.Table, as_of: date
) -> tuple[BuiltModel, Metrics, NDArray[np.float64]]:
    """Learn from the newest month itself; nobody is scored by a model that has seen him."""
    frame = _frame(order, [(as_of, rows, rows[order.label])])
    judged = cross_validate(frame, order.spec, order.folds, rooms.seed, progress=rooms.progress)
    model = build_model(frame, order.spec, seed=rooms.seed, progress=rooms.progress)
    return model, judged.metrics, judged.scores


def _learn_before(
    rooms: Rooms, order: ScoreOrder, newest: pa.Table, as_of: date
) -> tuple[BuiltModel, Metrics, NDArray[np.float64]]:
    """Learn from earlier months, whose answer is known, and score the newest."""
    dates = [day for day in rooms.lake.view().dates("tag__customer__customer") if day <= as_of]
    pairs = list(zip(dates, dates[order.lead_months :], strict=False))
    if not pairs:
        raise NothingToLearnError(
            f"Model '{order.spec.name}' needs tags at dates {order.lead_months} month(s) apart.",
            remedy="Derive the tags of earlier months first (bihuan tags derive --as-of ...).",
            zh=f"模型 {order.spec.name} 需要相隔 {order.lead_months} 个月的两期标签，"
            "请先生成更早月份的标签。",
        )
    months = []
    for seen, answered in pairs:
        rows = _part(rooms, order, seen)
        answers = _tags(rooms, answered).read(rooms.engine, [order.label])
        months.append((seen, *_joined(rows, answers, order.label)))
    frame = _frame(order, months)
    features = newest.select(list(order.features))
    model = build_model(
        frame, order.spec, seed=rooms.seed, progress=rooms.progress,
        newest=features, newest_as_of=as_of,
    )  # fmt: skip
    return model, model.card.metrics, model.score(features, as_of=as_of)


def _tags(rooms: Rooms, as_of: date) -> TagTable:
    return read_tags(rooms.lake.view(), rooms.dictionary, "customer", as_of)


def _part(rooms: Rooms, order: ScoreOrder, as_of: date) -> pa.Table:
    wanted = [*order.features, order.label]
    tags = _tags(rooms, as_of)
    _, flags = read_flags([bind(order.population, tags.fields)], tags, engine=rooms.engine)
    return tags.read(rooms.engine, wanted).filter(pa.array(flags[:, 0]))


def _joined(rows: pa.Table, answers: pa.Table, label: str) -> tuple[pa.Table, pa.ChunkedArray]:
    """Keep the rows whose customer has an answer later, and put the answers beside them."""
    at = pc.index_in(rows["customer_id"], value_set=answers["customer_id"])
    known = pc.is_valid(at)
    return rows.filter(known), answers[label].take(at.drop_null())


def _frame(
    order: ScoreOrder, months: list[tuple[date, pa.Table, pa.ChunkedArray]]
) -> LabelledFrame:
    rows = pa.concat_tables([rows for _, rows, _ in months])
    days = [np.full(rows.num_rows, day, dtype="datetime64[D]") for day, rows, _ in months]
    as_of = np.concatenate(days)
    label = pa.chunked_array([chunk for _, _, column in months for chunk in column.chunks])
    return LabelledFrame(
        ids=rows["customer_id"],
        features=rows.select(list(order.features)),
        label=pc.fill_null(label, False).to_numpy(),
        period=as_of if len(months) > 1 else None,
        as_of=as_of,
        lineage={"label": order.label, "months": [day.isoformat() for day, _, _ in months]},
    )
