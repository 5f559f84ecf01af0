"""What evaluation accepts: tables are checked once, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.kernel import UserError

_DECISION_COLUMNS = ("campaign_id", "customer_id", "arm", "treatment_probability", "stratum")
PROBABILITY_DIGITS = 9  # probabilities equal to this many digits are one probability


class EvaluationInputError(UserError):
    """A table given to evaluation lacks a column, repeats a customer or holds a wrong value."""


def clean_decisions(decisions: pa.Table) -> pa.Table:
    """Return the planned customers of one campaign: customer_id, stratum, probability, treated."""
    require_columns(decisions, _DECISION_COLUMNS, "decisions")
    arm = decisions["arm"]
    planned = decisions.filter(
        pc.fill_null(pc.is_in(arm, value_set=pa.array(["treatment", "control"])), False)
    )
    campaigns = pc.unique(planned["campaign_id"]).to_pylist()
    if len(campaigns) > 1:
        raise EvaluationInputError(
            f"The decisions hold {len(campaigns)} campaigns, for example {campaigns[:3]}.",
            remedy="Evaluate one campaign at a time: filter by campaign_id.",
            zh="决策表含有多个营销活动，请按 campaign_id 每次只评估一个。",
        )
    require_unique(planned, "decisions")
    probability = pc.cast(planned["treatment_probability"], pa.float64())
    inside = pc.and_(pc.greater_equal(probability, 0.0), pc.less_equal(probability, 1.0))
    if planned.num_rows and not pc.all(pc.fill_null(inside, False)).as_py():
        raise EvaluationInputError(
            "The decisions hold a treatment_probability that is missing or outside 0..1.",
            remedy="Log the exact probability of treatment for every planned customer.",
            zh="决策表中 treatment_probability 有缺失或不在 0 到 1 之间，请记录准确的概率。",
        )
    return pa.table(
        {
            "customer_id": planned["customer_id"],
            "stratum": pc.fill_null(pc.cast(planned["stratum"], pa.string()), ""),
            "probability": pc.round(probability, ndigits=PROBABILITY_DIGITS),
            "treated": pc.equal(planned["arm"], "treatment"),
        }
    )


def clean_numbers(table: pa.Table, names: Iterable[str], title: str) -> pa.Table:
    """Return customer_id and the named columns as float64, NaN made missing."""
    wanted = list(names)
    require_columns(table, ("customer_id", *wanted), title)
    require_unique(table, title)
    columns = {"customer_id": table["customer_id"]}
    for name in wanted:
        column = table[name]
        if pa.types.is_boolean(column.type):
            column = pc.cast(column, pa.int8())
        try:
            numbers = pc.cast(column, pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise EvaluationInputError(
                f"Column '{name}' of {title} is {column.type}, not a number.",
                remedy="Give numbers or booleans.",
                zh=f"{title} 的列 {name} 不是数值，请提供数值或布尔值。",
            ) from error
        missing = pc.is_nan(numbers)
        numbers = pc.if_else(missing, pa.scalar(None, pa.float64()), numbers)
        if pc.any(pc.is_inf(numbers)).as_py():
            raise EvaluationInputError(
                f"Column '{name}' of {title} holds an infinite value.",
                remedy="Remove it or make it missing.",
                zh=f"{title} 的列 {name} 含有无穷大，请去掉或置为缺失。",
            )
        columns[name] = numbers
    return pa.table(columns)


def require_columns(table: pa.Table, columns: Iterable[str], title: str) -> None:
    """Raise :class:`EvaluationInputError` unless ``table`` has all ``columns``."""
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise EvaluationInputError(
            f"The {title} table has no column {', '.join(absent)} "
            f"(has: {', '.join(table.column_names)}).",
            remedy="Give a table with these columns.",
            zh=f"{title} 表缺少列：{'、'.join(absent)}，请补齐。",
        )


def require_unique(table: pa.Table, title: str, key: str = "customer_id") -> None:
    """Raise :class:`EvaluationInputError` if a value of ``key`` appears twice."""
    counts = pc.value_counts(table[key])
    if len(counts) == table.num_rows:
        return
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    example = repeated[0]["values"].as_py()
    raise EvaluationInputError(
        f"{len(repeated)} values of {key} appear more than once in the {title} table, "
        f"for example '{example}'.",
        remedy=f"Give one row per {key}: choose one step or add up the responses.",
        zh=f"{title} 表中有 {len(repeated)} 个 {key} 出现多次（例如 {example}），每个只能有一行。",
    )
