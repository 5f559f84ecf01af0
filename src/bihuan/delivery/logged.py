"""The gate before freezing: only decisions that were logged, whole and unambiguous are deployed.

Evaluation compares the arms by the probability with which each customer was treated. A decision
without that probability, or one that was written after the fact, can never be evaluated, so it is
refused here, while nothing has happened yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data import Engine, Snapshot
from bihuan.delivery.channel import CHANNEL_KINDS, UnknownChannelError
from bihuan.delivery.reading import DECISION_COLUMNS, Decisions, Logged
from bihuan.delivery.sql import statement
from bihuan.kernel import DefectError, UserError


class DecisionShapeError(UserError):
    """A decision row lacks what an assignment needs, or contradicts another one."""


class UnloggedDecisionError(UserError):
    """A decision was not logged, with its probability, before delivery."""


class MissingScriptError(UserError):
    """A deployed pair of offer and channel has no script."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """One thing that no deployed decision may be: an SQL condition and its sentences."""

    breach: str
    error: type[UserError]
    en: str
    zh: str
    remedy: str


_SPOILT = _Rule(
    "",
    DecisionShapeError,
    "have an id with control characters",
    "编号含控制字符",
    "Mend the ids in the source and decide again.",
)
_EXPERIMENT = "arm IN ('treatment', 'control')"
_RULES = (
    _Rule(
        "COALESCE(campaign_id <> :campaign_id, TRUE)",
        DecisionShapeError,
        "belong to another campaign",
        "不属于该方案",
        "Deploy the decisions of one campaign at a time.",
    ),
    _Rule(
        "customer_id IS NULL",
        DecisionShapeError,
        "have no customer id",
        "客户编号缺失",
        "Mend the ids in the source and decide again.",
    ),
    _Rule(
        "step IS NULL OR step < 1",
        DecisionShapeError,
        "have no step",
        "缺少步骤号",
        "Set step to 1 for a campaign of one contact.",
    ),
    _Rule(
        "arm = 'treatment' AND (offer_id IS NULL OR channel IS NULL)",
        DecisionShapeError,
        "are treatment without offer or channel",
        "属处理组却没有商品或渠道",
        "Decide again; every treated customer needs both.",
    ),
    _Rule(
        "COALESCE(decided_at > CAST(:now AS TIMESTAMPTZ), TRUE)",
        UnloggedDecisionError,
        "were not decided before now",
        "没有早于当前时刻的决策时间",
        "Log the decision first (decided_at), then deploy it.",
    ),
    _Rule(
        "NOT COALESCE(treatment_probability BETWEEN 0 AND 1, FALSE)"
        " OR (arm = 'treatment' AND treatment_probability = 0)"
        " OR (arm = 'control' AND treatment_probability = 1)",
        UnloggedDecisionError,
        "have no treatment probability that fits their arm",
        "缺少与分组相符的处理概率",
        "Assign the arms with the decision room, which logs the probability.",
    ),
)


def check_decisions(
    decisions: Decisions, *, campaign_id: str, now: datetime, engine: Engine
) -> int:
    """Refuse decisions that cannot be deployed and evaluated; return how many are to be.

    Parameters
    ----------
    decisions
        Rows of the ``decision`` contract, all arms.
    campaign_id
        The campaign to which all rows of a table must belong; other rows of a snapshot, which the
        campaigns of a day share, are passed over.
    now
        The present moment.
    engine
        Where the rows are counted.

    Raises
    ------
    DecisionShapeError, UnloggedDecisionError
        Naming the rule, the number of rows and one customer.
    """
    _require_columns(decisions)
    values = {"campaign_id": campaign_id, "now": now.isoformat()}
    query = _rule_query(values, of_one=isinstance(decisions, Snapshot))
    counted = engine.query(query, {"decision": decisions}).to_pylist()[0]
    for index, rule in enumerate(_RULES):
        if counted[f"count_{index}"]:
            raise _refusal(rule, counted[f"count_{index}"], counted[f"example_{index}"])
    treated = int(counted["treated"])
    if not treated:
        raise DecisionShapeError(
            f"Campaign '{campaign_id}' has no treatment decision, so there is nothing to deploy.",
            remedy="Widen the audience or the limits and decide again.",
            zh=f"方案 {campaign_id} 没有处理组决策,无可部署。请放宽人群或限额后重新决策。",
        )
    return treated


def check_read(
    logged: Logged,
    decisions: Decisions,
    *,
    campaign_id: str,
    scripts: Mapping[tuple[str, str], str],
    engine: Engine,
) -> None:
    """Refuse what only reading every row shows.

    Parameters
    ----------
    logged
        What was read of ``decisions``.
    decisions, campaign_id, engine
        As for :func:`check_decisions`.
    scripts
        Script id by offer id and channel kind; empty for none.

    Raises
    ------
    DecisionShapeError, UnknownChannelError, MissingScriptError
        Naming the rule and one case.
    """
    count, example = logged.spoilt
    if count:
        raise _refusal(_SPOILT, count, example)
    if logged.repeated:
        _check_unique(decisions, campaign_id, engine)
    _check_pairs(logged, scripts)


def _require_columns(decisions: Decisions) -> None:
    if isinstance(decisions, pa.Table):
        have = set(decisions.column_names)
    else:
        have = set.intersection(*(set(pq.read_schema(path).names) for path in decisions.files))
    missing = [name for name in DECISION_COLUMNS if name not in have]
    if missing:
        raise DefectError(f"Decisions lack the columns {missing}; they have {sorted(have)}.")


def sorted_hash(texts: pa.ChunkedArray) -> str:
    """Return the SHA-256 of sorted texts, joined; no value may be missing."""
    digest = hashlib.sha256()
    for chunk in texts.chunks:
        digest.update(text_bytes(chunk))
    return digest.hexdigest()


def text_bytes(texts: pa.Array) -> memoryview:
    """Return the joined UTF-8 bytes of an Arrow text array without missing values, uncopied."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return memoryview(b"")
    ends = memoryview(offsets).cast("q" if pa.types.is_large_string(texts.type) else "i")
    return memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]]


def _rule_query(values: Mapping[str, str], *, of_one: bool) -> exp.Query:
    columns = ["COUNT(*) FILTER (WHERE arm = 'treatment') AS treated"]
    for index, rule in enumerate(_RULES):
        breach = f"{_EXPERIMENT} AND ({rule.breach})"
        columns += [
            f"COUNT(*) FILTER (WHERE {breach}) AS count_{index}",
            f"MIN(customer_id) FILTER (WHERE {breach}) AS example_{index}",
        ]
    text = f"SELECT {', '.join(columns)} FROM decision"  # noqa: S608 - the constants above
    return statement(f"{text} WHERE campaign_id = :campaign_id" if of_one else text, **values)


def _refusal(rule: _Rule, count: int, example: str | None) -> UserError:
    return rule.error(
        f"{count} decisions {rule.en} (for example customer {example!r}).",
        remedy=rule.remedy,
        zh=f"有 {count} 条决策{rule.zh}(例如客户 {example!r}),不能部署。",
    )


def _check_unique(decisions: Decisions, campaign_id: str, engine: Engine) -> None:
    query = statement(
        "SELECT customer_id, step FROM decision WHERE arm IN ('treatment', 'control')"
        " AND campaign_id = :campaign_id"
        " GROUP BY customer_id, step HAVING COUNT(*) > 1 ORDER BY customer_id LIMIT 1",
        campaign_id=campaign_id,
    )
    for row in engine.query(query, {"decision": decisions}).to_pylist():
        raise DecisionShapeError(
            f"Customer {row['customer_id']!r} has more than one decision for step {row['step']}.",
            remedy="Decide again; one customer gets at most one decision per step.",
            zh=f"客户 {row['customer_id']!r} 在第 {row['step']} 步有多条决策。请重新决策。",
        )


def _check_pairs(logged: Logged, scripts: Mapping[tuple[str, str], str]) -> None:
    for offer, channel in logged.treated.pairs():
        if channel not in CHANNEL_KINDS:
            raise UnknownChannelError.of(channel)
        if scripts and (offer, channel) not in scripts:
            raise MissingScriptError(
                f"Offer '{offer}' is deployed through '{channel}' without a script.",
                remedy="Add the script to the campaign, or drop the channel for this offer.",
                zh=f"商品 {offer} 在渠道 {channel} 上没有话术。请补充话术或去掉该渠道。",
            )
