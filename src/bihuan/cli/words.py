"""Words of tables in both languages: headings of columns, titles of codes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_HEADINGS = MappingProxyType(
    {
        "about": "适用",
        "after": "变更后",
        "arms": "版本数",
        "as of": "数据日期",
        "before": "变更前",
        "business": "业务",
        "came": "进入",
        "campaign": "方案",
        "category": "业务",
        "channel": "渠道",
        "check": "检查项",
        "confirm": "需确认",
        "contacts": "接触",
        "coverage": "覆盖率",
        "covered": "已覆盖",
        "customers": "客户数",
        "effect": "成效",
        "expected_value": "期望价值",
        "feasibility": "可行性",
        "field": "规则项",
        "in use": "在用",
        "kind": "类型",
        "lacks": "缺少数据",
        "monthly_leaving": "月离网率",
        "left": "剩余",
        "limits": "规则项",
        "main_reason": "未覆盖主因",
        "moment": "关键时刻",
        "net": "净值",
        "of": "总客户",
        "offer": "产品",
        "offers": "产品数",
        "out": "剔除",
        "outcome": "结果",
        "part": "部分",
        "phase": "阶段",
        "place": "位置",
        "policy": "政策",
        "preference": "偏好分",
        "priority": "次序",
        "reasonableness": "合理性",
        "rehearsal": "预演编号",
        "said": "规定",
        "holds": "生效",
        "scope": "范围",
        "score": "得分",
        "script": "话术",
        "share": "占比",
        "size": "客户数",
        "soundness": "科学性",
        "stage": "阶段",
        "status": "状态",
        "step": "步骤",
        "strategy": "策略",
        "suited": "适合客户",
        "tier": "层级",
        "title": "名称",
        "touchpoint": "触点",
        "trigger": "触发器",
        "uncovered": "未覆盖",
        "unit": "组织",
        "value": "数值",
        "verdict": "结论",
        "version": "版本",
        "why": "理由",
        "why not": "未采用原因",
        "pack": "档次",
        "monthly_value": "月均价值",
        "batch": "批次",
        "count": "数量",
        "due": "应运行时间",
        "duplicate": "重复",
        "exclusion": "剔除项",
        "file": "文件",
        "finding": "发现",
        "group": "分组",
        "hits": "命中",
        "last": "最近一次",
        "layer": "层级",
        "limit": "限值",
        "means": "手段",
        "measure": "指标",
        "quarantined": "隔离",
        "read": "读取",
        "received": "接收",
        "remaining": "剩余",
        "removed": "剔除",
        "rows": "行数",
        "scene": "场景",
        "seconds": "秒",
        "source": "来源",
        "state": "状态",
        "stored": "入库",
        "subject": "主体",
        "table": "表",
        "tag": "标签",
        "tags": "标签数",
    }
)

_CODES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "channel": {
        "outbound": ("外呼", "outbound call"),
        "sms": ("短信", "text message"),
        "app": ("手机应用", "app"),
        "hall": ("营业厅", "business hall"),
        "account_manager": ("客户经理", "account manager"),
        "wechat": ("微信", "WeChat"),
        "web": ("网站", "web"),
        "terminal": ("自助终端", "self-service terminal"),
        "email": ("电子邮件", "e-mail"),
        "mail": ("信函", "letter"),
        "inbound": ("呼入", "inbound call"),
    },
    "kind": {
        "addon": ("加装包", "add-on pack"),
        "plan": ("套餐", "plan"),
        "contract": ("合约", "contract"),
        "vas": ("增值业务", "value-added service"),
        "device": ("终端", "device"),
        "service": ("服务", "service"),
        "leased_line": ("专线", "leased line"),
        "all offers": ("全部产品", "all offers"),
    },
    "status": {
        "approved": ("已批准", "approved"),
        "draft": ("草稿", "draft"),
        "retired": ("已停用", "retired"),
    },
    "verdict": {"pass": ("通过", "pass"), "warn": ("提醒", "warning"), "fail": ("不通过", "fail")},
    "moment": {"marketing": ("营销", "marketing"), "service": ("服务", "service")},
    "outcome": {
        "fired": ("已触发", "fired"),
        "rule_not_met": ("客户不符合条件", "rule not met"),
        "cooling": ("冷却期内", "cooling down"),
        "repeated": ("同一事件已处理", "the same event again"),
        "nothing_open": ("没有可推荐的策略", "no strategy open"),
    },
    "action": {
        "force": ("强制", "force"),
        "forbid": ("禁止", "forbid"),
        "replace": ("替换", "replace"),
        "lift": ("解除", "lift"),
    },
    "left_out": {
        "no_touchpoint": ("没有可用触点", "no touchpoint"),
        "no_preference": ("没有渠道偏好", "no preferred channel"),
        "no_strategy": ("没有适合的策略", "no strategy fits"),
    },
    "all": {
        "customers": ("全客户", "all customers"),
        "businesses": ("全业务", "all businesses"),
        "life_cycle": ("全生命周期", "whole life cycle"),
        "scenes": ("全场景", "all scenes"),
        "touchpoints": ("全触点", "all touchpoints"),
    },
    "tier": {
        "province": ("省", "province"),
        "city": ("市", "city"),
        "county": ("县", "county"),
        "line": ("条线", "line"),
        "grid": ("网格", "grid"),
        "ceo": ("小CEO", "grid manager"),
        "seller": ("销售员", "seller"),
    },
    "unit": {"CNY": ("元", "CNY"), "month": ("月", "month"), "MB": ("MB", "MB")},
}


def heading(name: str, language: str, unit: str = "") -> str:
    """Return a column's heading, with the unit of its numbers.

    Examples
    --------
    >>> heading("net", "zh", "CNY"), heading("expected_value", "en", "CNY")
    ('净值（元）', 'expected value (CNY)')
    """
    zh = language == "zh"
    text = _HEADINGS.get(name, name) if zh else name.replace("_", " ")
    if not unit or unit == "%":
        return text
    shown = " / ".join(word("unit", part, language) for part in unit.split("/"))
    return f"{text}（{shown.replace(' ', '')}）" if zh else f"{text} ({shown})"


def word(group: str, code: str, language: str) -> str:
    """Return what a code means; codes that are not ours, such as a new channel, stay as they are.

    Examples
    --------
    >>> word("channel", "sms", "zh"), word("channel", "pigeon", "zh")
    ('短信', 'pigeon')
    """
    zh, en = _CODES[group].get(code, (code, code))
    return zh if language == "zh" else en
