"""A small life cycle of our own, and customers whose places are known by heart."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from bihuan.strategy.lifecycle import LifeCycle, load_life_cycle

SEPTEMBER, OCTOBER = date(2026, 9, 30), date(2026, 10, 31)
KINDS = {
    "tenure_months": "integer", "is_disconnected": "boolean", "falling": "boolean",
    "arpu": "money", "calls_rival": "boolean", "org_unit": "string", "value_band": "string",
}  # fmt: skip
LIFE_CYCLE = """
life_cycle: own
title: {zh: 生命周期, en: Life cycle}
stages:
  - {code: leave, aim: {zh: 赢回, en: Win back}, when: is_disconnected}
  - {code: decline, aim: {zh: 留住, en: Keep}, when: falling}
  - {code: acquisition, aim: {zh: 获取, en: Win}, when: "tenure_months <= 3"}
  - {code: growth, aim: {zh: 提升, en: Grow}, when: "tenure_months <= 24"}
  - {code: maturity, aim: {zh: 稳定, en: Keep steady}, when: "tenure_months > 24"}
strategies:
  - {id: save, title: {zh: 挽留, en: Save}, aim: {zh: 挽留, en: Save}, script: {zh: 好, en: Hello},
     stages: [decline], means: warn, when: "arpu >= 100", channels: [account_manager, outbound],
     offers: {ids: [keep]}}
  - {id: tend, title: {zh: 维护, en: Tend}, aim: {zh: 维护, en: Tend}, script: {zh: 好, en: Hello},
     stages: [decline, maturity], means: serve, channels: [sms], offers: {kinds: [addon]}}
  - {id: cross, title: {zh: 交叉, en: Cross}, aim: {zh: 交叉, en: Cross}, script: {zh: 好, en: Hi},
     stages: [acquisition, growth], means: cross_marketing, channels: [app, sms],
     offers: {kinds: [vas]}}
  - {id: back, title: {zh: 赢回, en: Back}, aim: {zh: 赢回, en: Back}, script: {zh: 好, en: Hello},
     stages: [leave], means: win_back, channels: [outbound], offers: {kinds: [plan]}}
signs:
  - {code: falling, title: {zh: 下滑, en: Falling}, when: falling, weight: 1}
  - {code: rival, title: {zh: 异网, en: Rival}, when: calls_rival, weight: 2}
  - {code: score, title: {zh: 模型, en: Model}, when: "churn_score >= 0.3", weight: 3}
levels: {notice: 1, urgent: 3}
"""


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("own")
    path = folder / "own.yaml"
    path.write_text(LIFE_CYCLE, encoding="utf-8")

    def change(old: str, new: str) -> Path:
        assert old in LIFE_CYCLE
        changed = folder / "changed.yaml"
        changed.write_text(LIFE_CYCLE.replace(old, new, 1), encoding="utf-8")
        return changed

    life_cycle: LifeCycle = load_life_cycle(path)
    return SimpleNamespace(path=path, change=change, life_cycle=life_cycle, kinds=KINDS)


def customer(number: int, **tags: object) -> dict[str, object]:
    plain = {"tenure_months": 30, "is_disconnected": False, "falling": False, "arpu": 50,
             "calls_rival": False, "org_unit": "g1", "value_band": "low"}  # fmt: skip
    return {"customer_id": f"c{number}"} | plain | tags
