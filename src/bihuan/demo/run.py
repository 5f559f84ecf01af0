"""Both turns in a row, the report of both, and the summary line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bihuan.data import DuckDBEngine
from bihuan.demo.picture import replay_sections
from bihuan.demo.replay import Replay, replay_calls
from bihuan.demo.retention import AS_OF, CAMPAIGN, MODEL, Retention, turn_retention
from bihuan.demo.service import LaidOut, lay_out_service
from bihuan.evaluation import NotEstimable, Text
from bihuan.kernel import FixedClock, Progress, UserError
from bihuan.pack import PACKS
from bihuan.workspace import Workspace, open_workspace
from bihuan.workspace.layout import SETTINGS

SEED = 7
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)  # 14:00 in the market's zone, after the data's date
SETTINGS_TEXT = "name: demo\ncurrency: USD\nlanguage: zh\nseed: 7\n"

_NOTES = (
    Text(
        "客户为公开数据集 Telco Customer Churn（IBM 示例，虚构公司）的 7,043 户；"
        "是否离网取自其原有列。",
        "Customers: the 7,043 of the public data set Telco Customer Churn (IBM sample, a made-up "
        "company); who left is a real column.",
    ),
    Text(
        "城市、归属单位、历史接触、投诉、名单、容量、套餐与话术为本项目示例；"
        "客户对营销的反应由孪生模拟，因此真实效果已知。",
        "Cities, units, earlier contacts, complaints, lists, capacities, offers and scripts are "
        "samples of ours; reactions are simulated by the twin, hence the true effect is known.",
    ),
    Text(
        "外呼重放使用公开数据集 Bank Marketing（Moro、Cortez、Rita，2014，CC BY 4.0）的"
        " 41,188 次真实外呼；未使用通话时长。",
        "The replay uses the 41,188 real calls of the public data set Bank Marketing (Moro, "
        "Cortez, Rita 2014, CC BY 4.0), without the length of the calls.",
    ),
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found.

    Parameters
    ----------
    summary
        The figures of both turns, ready for JSON.
    page
        The HTML report of both turns.
    """

    summary: dict[str, Any]
    page: Path


def run(folder: Path, *, progress: Progress, say: Callable[[str, str], None]) -> DemoResult:
    """Run both turns in a fresh workspace and write their report.

    Parameters
    ----------
    folder
        Made anew if it is absent, empty or an earlier demo; anything else is refused.
    progress
        Where the work is reported.
    say
        Tells a line in Chinese and English.
    """
    started = time.perf_counter()
    workspace = _fresh_workspace(folder, progress)
    say(
        "① 真实外呼活动重放（41,188 次外呼）", "1. A real outbound campaign replayed (41,188 calls)"
    )
    replay = replay_calls(workspace, seed=SEED, progress=progress)
    _tell_replay(replay, say)
    say("② 真实客户的维系闭环（7,043 户）", "2. The retention loop on real customers (7,043)")
    retention = turn_retention(workspace, seed=SEED)
    _tell_retention(retention, say)
    page = workspace.report(
        CAMPAIGN,
        AS_OF,
        retention.responses_as_of,
        learnt=(retention.turn.model.card, retention.turn.metrics),
        true_effect=retention.true_effect,
        notes=_NOTES,
        extra=replay_sections(replay),
    )[0]
    say("③ 组织、账号与各状态方案（模拟省 14,700 人）",
        "3. People, accounts, plans in every state (a simulated province of 14,700)")  # fmt: skip
    service = lay_out_service(
        folder,
        whole_province=True,
        with_work=True,
        clock=FixedClock(NOW),
        progress=progress,
    )
    _tell_service(service, say)
    summary = _summary(replay, retention) | {
        "service": {
            "org_units": service.units,
            "people": service.people,
            "accounts": len(service.accounts),
            "plans": service.plans,
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    return DemoResult(summary, page)


def _tell_service(service: LaidOut, say: Callable[[str, str], None]) -> None:
    plans = sum(service.plans.values())
    say(
        f"  {service.units:,} 个组织单元，{service.people:,} 人，"
        f"{len(service.accounts)} 个演示账号，{plans} 个方案",
        f"  {service.units:,} org units, {service.people:,} people, {len(service.accounts)} demo"
        f" accounts, {plans} plans",
    )


def _fresh_workspace(folder: Path, progress: Progress) -> Workspace:
    if folder.exists() and any(folder.iterdir()):
        settings = folder / SETTINGS
        if not settings.exists() or settings.read_text(encoding="utf-8") != SETTINGS_TEXT:
            raise UserError(
                f"{folder} holds something that is not an earlier demo.",
                remedy="Choose another folder:  bihuan demo --workspace FOLDER.",
                zh=f"{folder} 中的内容不是以往的演示，请用 --workspace 指定其他文件夹。",
            )
        shutil.rmtree(folder)
    open_workspace(folder)
    (folder / SETTINGS).write_text(SETTINGS_TEXT, encoding="utf-8")
    workspace = open_workspace(
        folder, create=False, clock=FixedClock(NOW), progress=progress, engine=DuckDBEngine()
    )
    for pack in ("retention", "replay"):
        workspace.install(PACKS[pack])
    return workspace


def _tell_replay(replay: Replay, say: Callable[[str, str], None]) -> None:
    shares = {name: f"{policy.share:.1%}" for name, policy in replay.policies.items()}
    gain, low, high = replay.gain
    say(
        f"   席位只够一半外呼时抓住的成交：模型 {shares['model']}，银行原顺序 {shares['bank']}，"
        f"随机 {shares['random']}，完美 {shares['perfect']}；较原顺序 {gain:+.1%}"
        f"（95% 区间 {low:+.1%} 至 {high:+.1%}）",
        f"   Sales captured with seats for half the calls: model {shares['model']}, the bank's "
        f"order {shares['bank']}, random {shares['random']}, perfect {shares['perfect']}; "
        f"{gain:+.1%} against the bank's order (95 % interval {low:+.1%} to {high:+.1%})",
    )


def _tell_retention(retention: Retention, say: Callable[[str, str], None]) -> None:
    done = retention.turn
    gap, effect = done.plan.allocation.gap, done.judgement.effect
    say(
        f"   离网模型 AUC {done.metrics.auc.value:.4f}（10 折）；分配距最优不超过 {gap:.3%}",
        f"   Churn model AUC {done.metrics.auc.value:.4f} (10 folds); allocation within {gap:.3%} "
        "of the best possible",
    )
    if isinstance(effect, NotEstimable):
        say(
            f"   效果无法估计：{effect.reason['zh']}",
            f"   Effect not estimable: {effect.reason['en']}",
        )
        return
    figures = f"{effect.estimate:+.2%} [{effect.low:+.2%}, {effect.high:+.2%}]"
    say(
        f"   每户保有效果 {figures}，真实值 {retention.true_effect:+.2%}",
        f"   Effect on retention {figures}, truth {retention.true_effect:+.2%}",
    )


def _summary(replay: Replay, retention: Retention) -> dict[str, Any]:
    done = retention.turn
    effect = done.judgement.effect
    figures: dict[str, Any] = {"true": retention.true_effect}
    if isinstance(effect, NotEstimable):
        figures |= {"estimate": None, "low": None, "high": None, "reason": effect.reason["en"]}
    else:
        figures |= {"estimate": effect.estimate, "low": effect.low, "high": effect.high}
    return {
        "auc": done.metrics.auc.value,
        "replay": {
            "calls": replay.calls,
            "sales": replay.sales,
            "seats": replay.seats,
            "captured": {name: policy.share for name, policy in replay.policies.items()},
            "captured_low": replay.policies["model"].low,
            "captured_high": replay.policies["model"].high,
            "gain_over_bank": replay.gain[0],
            "gain_low": replay.gain[1],
            "gain_high": replay.gain[2],
        },
        "allocation_gap": done.plan.allocation.gap,
        "effect": figures,
        "model": MODEL,
    }
