"""The first page: where people find the report, the accounts of a demo, and the interface."""

from __future__ import annotations

import html
from typing import Annotated

from fastapi import Response
from fastapi.responses import HTMLResponse

from bihuan.server.api.frame import Call, Router, public
from bihuan.server.app.demo_account import DEMO_PASSWORD
from bihuan.server.app.errors import missing
from bihuan.server.app.permission import ROLES

router = Router(tag="pages", prefix="")

_STYLE = """body{font:16px/1.6 system-ui,"Noto Sans CJK SC","Microsoft YaHei",sans-serif;margin:0;
background:#f6f7f9;color:#1d2129}main{max-width:46rem;margin:6vh auto;padding:0 1.25rem}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{margin:.25rem 0;color:#4e5969}a{color:#165dff;text-decoration:none}
a:hover{text-decoration:underline}
table{border-collapse:collapse;width:100%;background:#fff;border-radius:8px;overflow:hidden}
td,th{padding:.4rem .75rem;text-align:left;border-bottom:1px solid #eef0f3;font-weight:400}
th{color:#86909c;font-size:.85rem}code{background:#eef0f3;padding:.1rem .35rem;border-radius:4px}
@media(prefers-color-scheme:dark){body{background:#17171a;color:#f2f3f5}p{color:#a9aeb8}
table{background:#232324}td,th{border-color:#333335}code{background:#333335}a{color:#6aa1ff}}"""


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def show_start(call: Annotated[Call, public("says where things are, and nothing else")]) -> str:
    """Show where to go from here."""
    reports = _reports(call) if call.service.settings.demo else []
    parts = [
        "<h1>闭环 · Bihuan</h1><p>运营商精准营销与客户维系闭环平台</p>"
        "<p>Closed-loop precision marketing and customer retention for operators</p>"
    ]
    if reports:
        links = "".join(
            f'<p><a href="/reports/{html.escape(name)}">{html.escape(name)}</a></p>'
            for name in reports
        )
        parts.append(f"<h2>本轮闭环报告 · Report of the turn</h2>{links}")
    parts.append(
        "<h2>接口 · Interface</h2>"
        '<p><a href="/api/v1/openapi.json">OpenAPI</a>：<code>POST /api/v1/sessions</code> '
        "登录后即可使用 · sign in and go on</p>"
    )
    if call.service.settings.demo:
        rows = "".join(
            f"<tr><td><code>demo-{name.replace('_', '-')}</code></td>"
            f"<td>{role.title['zh']} · {role.title['en']}</td></tr>"
            for name, role in ROLES.items()
        )
        parts.append(
            f"<h2>演示账号 · Demo accounts</h2><p>密码 · password <code>{DEMO_PASSWORD}</code></p>"
            f"<table><tr><th>账号 · account</th><th>角色 · role</th></tr>{rows}</table>"
        )
    return (
        '<!doctype html><html lang="zh"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>闭环 Bihuan</title><style>{_STYLE}</style><main>{''.join(parts)}</main></html>"
    )


@router.get("/reports/{name}", response_class=HTMLResponse, include_in_schema=False)
def show_report(
    call: Annotated[Call, public("reports of a demo workspace, on simulated people")], name: str
) -> Response:
    """Show a report of the demo's turn; there are none outside a demo workspace."""
    if not call.service.settings.demo or name not in _reports(call):
        raise missing("report", "报告", name)
    page = (call.service.workspace.layout.reports / name).read_text(encoding="utf-8")
    # a report is one file with its pictures inside, drawn by scripts of its own
    policy = "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


def _reports(call: Call) -> list[str]:
    folder = call.service.workspace.layout.reports
    return sorted(path.name for path in folder.glob("*.html")) if folder.is_dir() else []
