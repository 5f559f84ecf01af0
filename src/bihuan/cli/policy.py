"""Commands of policies, scripts and touchpoints: look up, check, ask "what if", change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bihuan.cli.app import HERE, AsJson, AsOf, Folder, app, open_here
from bihuan.cli.show import Screen, fields_of
from bihuan.kernel import UserError
from bihuan.strategy import Impact, PolicyChange, Violation
from bihuan.workspace import Workspace

policy_app = typer.Typer(no_args_is_help=True, help="Policies over the org tree. 政策继承。")
script_app = typer.Typer(no_args_is_help=True, help="Scripts said to customers. 话术匹配。")
touchpoint_app = typer.Typer(no_args_is_help=True, help="Strategies per touchpoint. 触点策略。")
app.add_typer(policy_app, name="policy")
app.add_typer(script_app, name="script")
app.add_typer(touchpoint_app, name="touchpoint")

Unit = Annotated[str, typer.Argument(help="Org unit id. 组织编号")]
OfferId = Annotated[str, typer.Argument(help="Offer id. 产品编号")]
PolicyId = Annotated[str, typer.Argument(help="Policy id. 政策编号")]
_SHOWN = 40
_UNITS_ZH = "caps：窗口天数内最多接触次数；price：{unit}/月；max_discount：让利占合约总价的比例"
_UNITS_EN = (
    "caps: contacts per window of days; price: {unit} a month; max_discount: gift as a share of "
    "the contract's price"
)
StatementFile = Annotated[Path, typer.Argument(help="YAML file with one statement. 一条政策")]


@policy_app.command(name="show")
def show_policy(
    unit: Unit, offer: OfferId, workspace: Folder = HERE, as_json: AsJson = False
) -> None:
    """Show what holds for a unit and an offer, and which level said so. 生效政策与来源.

    Example: bihuan policy show grid-130101-1 data_pack_5g
    """
    ws, screen = open_here(workspace, as_json)
    policy = ws.policies.resolve(unit, offer)
    rows = policy.rows()
    deciders = " / ".join(policy.decided_by) or "—"
    title, kind = screen.title(ws.catalogue.get(offer).title), screen.word("kind", policy.kind)
    screen.say(
        f"{unit} · {title}（{kind}）：由 {deciders} 决策，"
        f"{'可以' if policy.is_offered else '不得'}推荐",
        f"{unit} · {title} ({kind}): decided by {deciders};"
        f" {'may' if policy.is_offered else 'may not'} be offered",
    )
    if not policy.is_decided:
        screen.say("只有框架，尚无具体策略", "There is a frame and no strategy yet")
    screen.table(
        [
            {"field": r["field"], "tier": screen.word("tier", r["tier"]), "unit": r["unit"],
             "said": r["said"], "holds": r["left"], "place": r["place"]}
            for r in rows
        ]
    )  # fmt: skip
    screen.say(_UNITS_ZH.format(unit=screen.money_unit), _UNITS_EN.format(unit=screen.money_unit))
    screen.result(
        {
            "unit": unit, "offer": offer, "kind": policy.kind, "offered": policy.is_offered,
            "decided_by": policy.decided_by, "framed_by": policy.framed_by,
            "is_decided": policy.is_decided, "limits": rows,
        }
    )  # fmt: skip


@policy_app.command(name="check")
def check_policies(
    campaign: Annotated[str, typer.Argument(help="Campaign to hold against them. 方案")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Check all policies, and a campaign against them; exit code 2 if it cannot run. 政策检查.

    Example: bihuan policy check retention-2026-11
    """
    ws, screen = open_here(workspace, as_json)
    book = ws.policies.book()
    screen.say(
        f"{len(book.statements)} 条政策，{len(book.tree):,} 个组织单元，没有冲突",
        f"{len(book.statements)} policies, {len(book.tree):,} org units, no conflicts",
    )
    shown = [_statement_row(s) for s in book.statements] if not campaign else []
    screen.table(
        [
            {"policy": r["policy"], "unit": r["unit"], "about": screen.word("kind", r["about"]),
             "status": screen.word("status", r["status"]), "limits": r["limits"],
             "place": r["place"].removesuffix(f" ({r['policy']})")}
            for r in shown
        ]
    )  # fmt: skip
    found = ws.policies.check_campaign(campaign) if campaign else ()
    words = ws.scripts.check_campaign(campaign) if campaign else {}
    _tell_violations(found, screen)
    for name, hits in words.items():
        said = ", ".join(hit.word for hit in hits)
        screen.say(f"话术 {name} 含禁用词：{said}", f"Script {name} says: {said}")
    if campaign and not found and not words:
        screen.say(f"方案 {campaign} 符合政策", f"Campaign {campaign} keeps all policies")
    screen.result(
        {
            "policies": [_statement_row(s) for s in book.statements],
            "violations": [fields_of(v) for v in found],
            "forbidden_words": {name: [h.word for h in hits] for name, hits in words.items()},
        }
    )
    if words or any(violation.is_blocking for violation in found):
        raise SystemExit(UserError.exit_code)


@policy_app.command(name="what-if")
def what_if(
    file: Annotated[Path | None, typer.Argument(help="YAML file with one statement.")] = None,
    approve: Annotated[str, typer.Option(help="Draft to be approved. 拟批准")] = "",
    withdraw: Annotated[str, typer.Option(help="Policy to be taken out. 拟撤回")] = "",
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say what a change would touch; nothing is written. 变更影响预估.

    Example: bihuan policy what-if tighter.yaml
    """
    ws, screen = open_here(workspace, as_json)
    change = _change(ws, file, approve, withdraw)
    _tell_impact(ws.policies.what_if(change), screen)


@policy_app.command(name="put")
def put_policy(file: StatementFile, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Write a statement after checking it against all others. 写入政策.

    Example: bihuan policy put tighter.yaml
    """
    ws, screen = open_here(workspace, as_json)
    _tell_edit(ws.policies.put(_text(file)), screen)


@policy_app.command(name="approve")
def approve_policy(policy_id: PolicyId, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Put a draft in force, if nothing conflicts with it. 批准草稿.

    Example: bihuan policy approve city-1301-plans
    """
    ws, screen = open_here(workspace, as_json)
    _tell_edit(ws.policies.approve(policy_id), screen)


@policy_app.command(name="withdraw")
def withdraw_policy(policy_id: PolicyId, workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Take a statement out. 撤回政策.

    Example: bihuan policy withdraw city-1301-plans
    """
    ws, screen = open_here(workspace, as_json)
    _tell_edit(ws.policies.withdraw(policy_id), screen)


@script_app.command(name="match")
def match_script(
    customer: Annotated[str, typer.Argument(help="Customer id. 客户编号")],
    offer: OfferId,
    channel: Annotated[str, typer.Argument(help="Channel kind. 渠道")],
    as_of: AsOf,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what a customer hears about an offer in a channel, and why. 话术匹配.

    Example: bihuan script match C000123 data_pack_5g sms --as-of 2026-10-31
    """
    ws, screen = open_here(workspace, as_json)
    choice = ws.scripts.match(offer, channel, customer, as_of)
    if choice is None:
        screen.say("没有适用的话术", "No script fits")
    else:
        name = f"{choice.script_id} v{choice.version} {choice.arm}"
        screen.say(f"{name}：{choice.text['zh']}", f"{name}: {choice.text['en']}")
        screen.say(choice.why["zh"], choice.why["en"])
    screen.result(choice)


@script_app.command(name="check")
def check_scripts(workspace: Folder = HERE, as_json: AsJson = False) -> None:
    """Check all scripts: offers, tags, forbidden words, and whether one always wins. 话术检查.

    Example: bihuan script check
    """
    ws, screen = open_here(workspace, as_json)
    book = ws.scripts.book
    rows = [
        {"script": s.script_id, "version": s.version, "status": s.status,
         "title": screen.title(s.title), "arms": len(s.arms),
         "in use": s in book.in_use}
        for s in book.scripts
    ]  # fmt: skip
    screen.table([row | {"status": screen.word("status", str(row["status"]))} for row in rows])
    screen.say(
        f"{len(book.in_use)} 套话术在用，{len(book.words.words)} 个禁用词，没有问题",
        f"{len(book.in_use)} scripts in use, {len(book.words.words)} forbidden words, no problems",
    )
    screen.result(rows)


@touchpoint_app.command(name="deploy")
def deploy_touchpoints(
    as_of: AsOf,
    audience: Annotated[str, typer.Option(help="Whom to look at. 客户群条件")] = "everyone",
    out: Annotated[Path | None, typer.Option(help="Write the lists as CSV. 清单")] = None,
    workspace: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Give each touchpoint its strategies and customers; nothing is sent. 千人千店策略部署.

    Example: bihuan touchpoint deploy --as-of 2026-10-31
    """
    from bihuan.data import write_csv  # only where a list is written

    ws, screen = open_here(workspace, as_json)
    found = ws.touchpoints.deploy(as_of, audience)
    summary = found.summary()
    screen.table(
        [
            {"touchpoint": r["touchpoint_id"], "priority": r["place"], "strategy": r["strategy_id"],
             "offer": screen.title(ws.catalogue.get(r["offer_id"]).title),
             "customers": r["customers"], "preference": round(r["preference"], 2)}
            for r in summary.slice(0, _SHOWN).to_pylist()
        ]
    )  # fmt: skip
    if summary.num_rows > _SHOWN:
        screen.say(
            f"仅显示前 {_SHOWN} 行，共 {summary.num_rows:,} 行；全部清单用 --out 写出",
            f"The first {_SHOWN} of {summary.num_rows:,} rows; --out writes all lists",
        )
    screen.say(
        f"{len(found.touchpoints):,} 个触点，清单 {found.rows.num_rows:,} 行；"
        f"偏好分为清单客户对该渠道偏好的平均值（0 至 1）",
        f"{len(found.touchpoints):,} touchpoints, {found.rows.num_rows:,} rows; the preference is "
        "the mean of the customers listed, 0 to 1",
    )
    for reason, count in found.left_out.items():
        if count:
            why = screen.word("left_out", reason)
            screen.say(f"未列入 {count:,} 户：{why}", f"On no list: {count:,} customers, {why}")
    if out is not None:
        write_csv(found.rows, out)
        screen.say(f"已写出清单 {out}", f"Lists written to {out}")
    screen.result({"summary": summary, "left_out": found.left_out})


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}.",
            remedy="Give a YAML file with one statement.",
            zh=f"{file} 无法读取：{error.strerror}。请给出包含一条政策的 YAML 文件。",
        ) from error


def _change(ws: Workspace, file: Path | None, approve: str, withdraw: str) -> PolicyChange:
    if sum(bool(given) for given in (file, approve, withdraw)) != 1:
        raise UserError(
            "Say one change: a file, --approve or --withdraw.",
            remedy="See  bihuan policy what-if --help .",
            zh="请指定一项变更：文件、--approve 或 --withdraw。",
        )
    if file is not None:
        return PolicyChange.put(ws.policies.statement(_text(file)))
    if approve:
        return PolicyChange.approve(ws.policies.book().get(approve))
    return PolicyChange.withdraw(ws.policies.book().get(withdraw).policy_id)


def _statement_row(statement: Any) -> dict[str, Any]:
    return {
        "policy": statement.policy_id, "unit": statement.unit_id, "about": statement.about,
        "status": statement.status, "limits": ", ".join(statement.limits),
        "place": statement.place,
    }  # fmt: skip


def _open(screen: Screen, value: str) -> str:
    return "不限" if value == "open" and screen.language == "zh" else value


def _tell_violations(found: tuple[Violation, ...], screen: Screen) -> None:
    for violation in found:
        zh, en = ("不可执行", "cannot run") if violation.is_blocking else ("部分", "in part")
        screen.say(f"[{zh}] {violation.message['zh']}", f"[{en}] {violation.message['en']}")


def _tell_edit(edit: Any, screen: Screen) -> None:
    screen.say(f"已写入 {edit.file.name}", f"Written to {edit.file.name}")
    _tell_impact(edit.impact, screen)


def _tell_impact(impact: Impact, screen: Screen) -> None:
    screen.say(
        f"涉及 {len(impact.units):,} 个组织单元、{len(impact.offers)} 个产品、"
        f"{impact.customer_count:,} 户客户、{len(impact.campaigns)} 个方案"
        + ("" if impact.is_in_force else "（草稿，批准后生效）"),
        f"Touches {len(impact.units):,} org units, {len(impact.offers)} offers,"
        f" {impact.customer_count:,} customers, {len(impact.campaigns)} campaigns"
        + ("" if impact.is_in_force else " (a draft: holds once approved)"),
    )
    screen.table(
        [
            {"unit": f.unit_id, "offers": len(f.offers), "field": f.facet,
             "before": _open(screen, f.before), "after": _open(screen, f.after)}
            for f in impact.fields[:_SHOWN]
        ]
    )  # fmt: skip
    for conflict in impact.conflicts:
        screen.say(conflict.text("zh"), conflict.text("en"))
    for campaign in impact.campaigns:
        name = campaign.campaign_id
        if campaign.broken:
            screen.say(f"方案 {name} 将违反：", f"Campaign {name} would break:")
        else:
            screen.say(f"方案 {name}：仍符合政策", f"Campaign {name}: keeps all policies")
        _tell_violations(campaign.broken, screen)
    screen.result(fields_of(impact) | {"customer_count": impact.customer_count})
