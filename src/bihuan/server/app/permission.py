"""Named actions and the roles that may do them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bihuan.kernel import UserError


class PermissionDeniedError(UserError):
    """No post of the caller grants the action."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that a post can carry.

    Parameters
    ----------
    title
        ``{"zh": ..., "en": ...}``.
    actions
        Names out of :data:`ACTIONS`.
    """

    title: Mapping[str, str]
    actions: frozenset[str]


ACTIONS: Mapping[str, Mapping[str, str]] = {
    "org.read": {"zh": "查看组织", "en": "see org units, outlets, crews and areas"},
    "org.manage": {"zh": "维护组织", "en": "import, open, move and close org units"},
    "staff.read": {"zh": "查看人员", "en": "see staff and their posts"},
    "staff.manage": {"zh": "维护人员", "en": "change staff and their posts"},
    "account.read": {"zh": "查看账号", "en": "see accounts"},
    "account.manage": {"zh": "管理账号", "en": "open, lock and change accounts"},
    "plan.read": {"zh": "查看方案", "en": "see campaign plans and the plan library"},
    "plan.edit": {"zh": "编制方案", "en": "draft, rehearse, assess and submit plans"},
    "plan.approve": {"zh": "审批方案", "en": "approve, return, delegate filed plans"},
    "plan.stop": {"zh": "暂停与恢复", "en": "pause and resume running plans"},
    "plan.share": {"zh": "分享优秀案例", "en": "share plans as templates and good cases"},
    "impact.read": {"zh": "查看影响评估", "en": "see impact assessments"},
    "impact.manage": {"zh": "开展影响评估", "en": "record impact assessments"},
    "knowledge.read": {"zh": "查看知识库", "en": "read the knowledge base"},
    "knowledge.edit": {"zh": "编写知识库", "en": "write to the knowledge base"},
    "deployment.read": {"zh": "查看部署", "en": "see deployments"},
    "deployment.run": {"zh": "部署方案", "en": "deploy approved plans"},
    "tag.read": {"zh": "查看标签", "en": "see the tag dictionary"},
    "audience.read": {"zh": "圈选客群", "en": "count and describe audiences"},
    "audience.export": {"zh": "导出客群", "en": "export lists of customers"},
    "small_groups.see": {"zh": "查看小群体", "en": "see counts of fewer than k customers"},
    "customer.read": {"zh": "查看客户", "en": "see one customer, numbers masked"},
    "customer.unmask": {"zh": "查看客户号码", "en": "see a customer's number in clear"},
    "customer.opt_out": {"zh": "登记拒绝营销", "en": "record a customer's refusals"},
    "customer.erase": {"zh": "删除客户数据", "en": "erase one customer"},
    "policy.read": {"zh": "查看策略规则", "en": "see resolved policies"},
    "policy.edit": {"zh": "维护策略规则", "en": "change the policies of a unit"},
    "strategy.publish": {"zh": "发布策略", "en": "publish strategies to all channels"},
    "indicator.read": {"zh": "查看指标", "en": "see indicators and their definitions"},
    "indicator.manage": {"zh": "维护指标口径", "en": "define indicators and assessment rules"},
    "indicator.approve": {"zh": "审核指标口径", "en": "approve indicators and assessment rules"},
    "scene.read": {"zh": "查看场景", "en": "see scenes"},
    "scene.manage": {"zh": "增补场景", "en": "add and change scenes"},
    "team.read": {"zh": "查看团队", "en": "see teams, training and assessments"},
    "team.manage": {"zh": "维护团队", "en": "change teams, training and assessments"},
    "guide.work": {"zh": "执行实施辅导", "en": "tick off guide tasks and give feedback"},
    "job.read": {"zh": "查看作业", "en": "see jobs and schedules"},
    "job.run": {"zh": "运行作业", "en": "start and cancel jobs, change schedules"},
    "audit.read": {"zh": "查看审计", "en": "search the audit trail"},
    "audit.export": {"zh": "导出审计", "en": "export and verify the audit trail"},
    "service.read": {"zh": "查看运行状态", "en": "see health and settings"},
}

_EVERYBODY = frozenset(
    ("org.read", "knowledge.read", "plan.read", "indicator.read", "scene.read", "team.read")
)


def _role(zh: str, en: str, *actions: str) -> Role:
    return Role({"zh": zh, "en": en}, _EVERYBODY | frozenset(actions))


ROLES: Mapping[str, Role] = {
    "planner": _role(
        "营销策划", "planner",
        "plan.edit", "plan.stop", "plan.share", "deployment.read", "deployment.run", "impact.read",
        "impact.manage", "knowledge.edit", "tag.read", "audience.read", "customer.read",
        "policy.read", "staff.read", "job.read", "job.run", "scene.manage",
        "guide.work",
    ),
    "analyst": _role(
        "数据分析", "analyst",
        "tag.read", "audience.read", "audience.export", "customer.read", "knowledge.edit",
        "policy.read", "deployment.read", "job.read", "job.run", "small_groups.see",
        "indicator.manage",
    ),
    "approver": _role(
        "审批", "approver",
        "plan.approve", "plan.stop", "plan.share", "impact.read", "deployment.read",
        "audience.read", "policy.read", "staff.read",
    ),
    "channel_operator": _role(
        "渠道运营", "channel operator",
        "deployment.read", "plan.stop", "strategy.publish", "policy.read", "job.read",
        "guide.work",
    ),
    "outbound_seat": _role("外呼坐席", "outbound seat", "customer.read", "customer.opt_out"),
    "hall_clerk": _role("营业员", "hall clerk", "customer.read", "customer.opt_out"),
    "account_manager": _role(
        "客户经理", "account manager",
        "customer.read", "customer.unmask", "customer.opt_out", "audience.read",
    ),
    "grid_manager": _role(
        "网格经理", "grid manager",
        "customer.read", "customer.opt_out", "audience.read", "staff.read", "deployment.read",
        "plan.stop",
        "guide.work",
    ),
    "product_manager": _role(
        "产品经理", "product manager",
        "tag.read", "audience.read", "policy.read", "policy.edit", "knowledge.edit",
        "strategy.publish", "scene.manage",
    ),
    "director": _role(
        "领导", "director",
        "plan.approve", "plan.stop", "plan.share", "impact.read", "deployment.read",
        "audience.read", "policy.read", "policy.edit", "staff.read", "team.manage",
        "indicator.manage", "job.read",
        "indicator.approve",
    ),
    "auditor": _role(
        "审计", "auditor",
        "audit.read", "audit.export", "impact.read", "deployment.read", "account.read",
        "staff.read", "policy.read", "job.read", "service.read",
    ),
    "administrator": _role(
        "系统管理", "administrator",
        "org.manage", "staff.read", "staff.manage", "account.read", "account.manage",
        "team.manage", "job.read", "job.run", "service.read", "tag.read", "customer.erase",
    ),
}  # fmt: skip
"""Who may do what. An administrator keeps the house and sees no customer; an auditor sees what
was done and changes nothing; no role both writes and approves plans."""


def granting(action: str) -> frozenset[str]:
    """Return the roles that grant ``action``.

    Raises
    ------
    KeyError
        If there is no such action.
    """
    if action not in ACTIONS:
        raise KeyError(action)
    return frozenset(name for name, role in ROLES.items() if action in role.actions)


def denied(action: str, **context: Any) -> PermissionDeniedError:
    """Return the error for an action that no post of the caller grants."""
    title = ACTIONS[action]
    return PermissionDeniedError(
        f"You may not {title['en']} ({action}).",
        remedy=f"It takes the role {' or '.join(sorted(granting(action)))}.",
        zh=f"您没有“{title['zh']}”权限，需要角色："
        + "、".join(ROLES[name].title["zh"] for name in sorted(granting(action)))
        + "。",
    )
