"""Sample work of the demo: teams, training, an operating process, knowledge, indicators.

The numbers of planned people are the paper's (30, 46 and 426 by level, 68 in digital support);
everything else is content of ours and says so.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from bihuan.evaluation.indicator import IndicatorCatalogue
from bihuan.pack import PACKS
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.indicator import install_catalogue
from bihuan.server.app.knowledge import (
    Entry,
    get_entry,
    review_entry,
    submit_entry,
    write_entry,
)
from bihuan.server.app.service import Service
from bihuan.server.app.team import add_member, define_process, open_course, open_team
from bihuan.server.app.team.roster import DIGITAL_SUPPORT_PLAN, TEAM_KINDS, TOUCHPOINT_PLAN
from bihuan.server.control import Account, OrgUnit, Staff, StaffPost, Team, UnitOfWork

OURS = {"zh": "示例内容（本项目自拟）", "en": "sample content of ours"}
PROCESS = "demand_to_launch"
_FOUR = tuple(post for post in TEAM_KINDS["digital_support"] if post != "title")
_STEPS = (
    ("request", "需求受理", "Take the request", "process_management", 1),
    ("design", "产商品设计", "Design the offer", "product_management", 3),
    ("configure", "产商品配置", "Configure the offer", "product_configuration", 2),
    ("launch", "触点上线", "Launch at the touchpoints", "touchpoint_support", 1),
)
_COURSES = (
    ("目标客户圈选与小群体保护", "Choosing customers, protecting small groups",
     ("touchpoint", "digital_support"), 4.0, 60),
    ("方案预演与对照组设计", "Rehearsing plans, designing control groups",
     ("digital_support",), 6.0, 90),
)  # fmt: skip
_ENTRIES = (
    Entry(
        "data_quality",
        "示例：同一号码归属多个客户 · Sample: one number, several customers",
        "导入后同一号码对应多个客户编号，客群数量偏大。\n"
        "After an import one number belongs to several customers, so audiences are too large.",
        "按最近一次实名变更保留一条，其余进入隔离区，请源系统更正后重新导入。"
        f"{OURS['zh']}\n"
        "Keep the row of the newest change of owner, leave the others in quarantine, have the"
        f" source corrected and import again. {OURS['en']}",
        labels=("实名", "quarantine"),
        links=({"kind": "table", "id": "subscription"},),
    ),
    Entry(
        "retention",
        "示例：合约到期前两个月联系效果更稳 · Sample: call two months before a contract ends",
        "合约到期当月才联系，客户多已比较过其他方案。\n"
        "Customers who are called in the last month have compared offers already.",
        "到期前两个月开始联系，先谈服务再谈价格，并保留对照组以便评估。"
        f"{OURS['zh']}\n"
        "Begin two months before, speak of service before price, and keep a control group so that"
        f" the effect can be judged. {OURS['en']}",
        labels=("合约", "contract"),
    ),
    Entry(
        "script",
        "示例：外呼开场先说明来意与退订方式 · Sample: begin with why you call and how to refuse",
        "客户不知道来电目的，较早挂断。\nCustomers do not know why they are called and hang up.",
        "第一句说明身份与来意，第二句说明可以随时拒绝，客户拒绝时当场登记。"
        f"{OURS['zh']}\n"
        "Say who you are and why you call, then that the customer may refuse at any time; record a"
        f" refusal at once. {OURS['en']}",
        labels=("外呼", "outbound"),
    ),
)


def lay_out_sample_work(service: Service) -> dict[str, int]:
    """Give the lists of a demo something to show; done again, it adds nothing.

    Parameters
    ----------
    service
        A demo service with its organisation and demo accounts.

    Returns
    -------
    dict
        How many ``teams``, ``planned`` people, ``members``, ``courses``, ``processes``,
        ``entries`` and ``indicators`` were added.
    """
    with service.system_work(read_only=True) as work:
        is_laid_out = work.session.scalars(sa.select(Team.team_id).limit(1)).first() is not None
    added = {} if is_laid_out else {**_teams(service), **_training(service), **_entries(service)}
    names = ("teams", "planned", "members", "courses", "processes", "entries")
    return {name: added.get(name, 0) for name in names} | {
        "indicators": install_sample_indicators(service)
    }


def install_sample_indicators(service: Service) -> int:
    """Enter the sample catalogue as approved indicators; return how many were not there.

    The demo's analyst answers as its maker, the demo's director as its checker.
    """
    catalogue = IndicatorCatalogue.load(PACKS["sample"] / "indicators" / "standard.yaml")
    maker, checker = _actor(service, "demo-analyst"), _actor(service, "demo-director")
    with service.system_work() as work:
        added = install_catalogue(
            work, maker.home_unit_id, catalogue, made_by=maker.account_id,
            reviewed_by=checker.account_id, reason=f"{OURS['zh']} · {OURS['en']}",
        )  # fmt: skip
        return len(added)


def _teams(service: Service) -> dict[str, int]:
    """Set up touchpoint teams at the three levels and one digital team with its four posts."""
    keeper = _actor(service, "demo-administrator")
    members = 0
    with service.work(keeper, "team.manage") as work:
        teams = []
        for tier, people in TOUCHPOINT_PLAN.items():
            units = _units(work, tier)[:people]  # nobody is planned for more teams than people
            for unit, share in zip(units, _shares(people, len(units)), strict=True):
                name = {
                    "zh": f"{unit.name_zh}触点运营团队（示例）",
                    "en": f"{unit.name_en or unit.name_zh} touchpoint team (sample)",
                }
                planned = {"operator": share - 1, "lead": 1}
                teams.append(open_team(work, unit.unit_id, "touchpoint", name, planned))
        name = {"zh": "数字化支撑团队（示例）", "en": "Digital support team (sample)"}
        planned = dict(zip(_FOUR, _shares(DIGITAL_SUPPORT_PLAN, len(_FOUR)), strict=True))
        digital = open_team(work, keeper.home_unit_id, "digital_support", name, planned)
        staff = _staff(work, keeper.home_unit_id, 2 * len(_FOUR))
        for number, staff_id in enumerate(staff):
            post = _FOUR[number % len(_FOUR)]
            add_member(work, digital, staff_id, post, since=work.now.date())
            members += 1
        planned_people = sum(sum(team.planned.values()) for team in (*teams, digital))
        return {"teams": len(teams) + 1, "planned": planned_people, "members": members}


def _training(service: Service) -> dict[str, int]:
    keeper = _actor(service, "demo-administrator")
    unit = keeper.home_unit_id
    with service.work(keeper, "team.manage") as work:
        for zh, en, kinds, hours, days in _COURSES:
            open_course(
                work, keeper, unit, {"zh": f"{zh}（示例）", "en": f"{en} (sample)"}, hours=hours,
                team_kinds=kinds, pass_mark=80, due_on=work.now.date() + timedelta(days=days),
            )  # fmt: skip
        steps = [
            {"name": name, "title": {"zh": zh, "en": en}, "team_kind": "digital_support",
             "post": post, "days": days}
            for name, zh, en, post, days in _STEPS
        ]  # fmt: skip
        title = {"zh": "需求到上线流程（示例）", "en": "From request to launch (sample)"}
        define_process(work, keeper, unit, PROCESS, title, steps)
    return {"courses": len(_COURSES), "processes": 1}


def _entries(service: Service) -> dict[str, int]:
    """Have the analyst write, and the product manager review: nobody reviews their own."""
    writer, reader = _actor(service, "demo-analyst"), _actor(service, "demo-product-manager")
    for entry in _ENTRIES:
        with service.work(writer, "knowledge.edit") as work:
            row = write_entry(work, writer, writer.home_unit_id, entry)
            submit_entry(work, writer, row)
            entry_id = row.entry_id
        with service.work(reader, "knowledge.edit") as work:
            review_entry(work, reader, get_entry(work, entry_id), accept=True)
    return {"entries": len(_ENTRIES)}


def _units(work: UnitOfWork, tier: str) -> list[OrgUnit]:
    query = sa.select(OrgUnit).where(OrgUnit.tier == tier, OrgUnit.status == "active")
    return list(work.session.scalars(query.order_by(OrgUnit.unit_id)))


def _shares(people: int, parts: int) -> list[int]:
    """Share people out, the first ones getting what is left over; none where there is no part."""
    return [people // parts + (number < people % parts) for number in range(parts)]


def _staff(work: UnitOfWork, unit_id: str, most: int) -> list[str]:
    query = sa.select(Staff).where(Staff.unit_id == unit_id, Staff.status == "active")
    return [
        row.staff_id for row in work.session.scalars(query.order_by(Staff.staff_id).limit(most))
    ]


def _actor(service: Service, name: str) -> Actor:
    with service.system_work(read_only=True) as work:
        account = work.session.scalars(sa.select(Account).where(Account.name == name)).one()
        query = sa.select(StaffPost).where(
            StaffPost.staff_id == account.staff_id, StaffPost.status == "active"
        )
        held = tuple(Post(post.role, post.unit_id) for post in work.session.scalars(query))
    return Actor(account.account_id, account.unit_id, held)
