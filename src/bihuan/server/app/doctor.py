"""What is wrong with a service, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from bihuan.kernel import BihuanError
from bihuan.server.app.service import Service
from bihuan.server.control import (
    AuditHead,
    current_revision,
    differences,
    newest_revision,
    sqlite_state,
    unsecured,
)

ENOUGH_DISK = 0.05
"""Share of the disk that must be free: below it, ingest and deployment should not begin."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    name
        What was looked at.
    ok
        Whether it is as it should be.
    zh, en
        What was found.
    remedy_zh, remedy_en
        What to do; empty if it is ok.
    """

    name: str
    ok: bool
    zh: str
    en: str
    remedy_zh: str = ""
    remedy_en: str = ""


def examine(service: Service) -> list[Finding]:
    """Look at everything that a service stands on.

    Returns
    -------
    list of Finding
        In the order in which to mend; nothing raises, a check that fails is a finding.
    """
    return [finding for name, look in CHECKS.items() for finding in _look(name, look, service)]


def is_ready(service: Service) -> bool:
    """Tell whether the control database has the right form and the lake can be read."""
    return all(
        finding.ok
        for name in ("control_database", "lake")
        for finding in _look(name, CHECKS[name], service)
    )


def _look(
    name: str, look: Callable[[Service], Iterator[Finding]], service: Service
) -> list[Finding]:
    try:
        return list(look(service))
    except (BihuanError, sa.exc.SQLAlchemyError, OSError, ValueError) as error:
        return [
            Finding(
                name, False, f"检查失败：{error}", f"The check failed: {error}",
                "先排除该错误，再运行一次。", "Mend that error and run it again.",
            )
        ]  # fmt: skip


def _control_database(service: Service) -> Iterator[Finding]:
    current, newest = current_revision(service.control.engine), newest_revision()
    ok = current == newest
    yield Finding(
        "control_database", ok,
        f"控制库版本 {current or '空'}，程序版本 {newest}。",
        f"The control database has the form {current or 'none'}, the program {newest}.",
        "" if ok else "备份后运行 bihuan migrate。",
        "" if ok else "Make a backup, then run `bihuan migrate`.",
    )  # fmt: skip


def _control_form(service: Service) -> Iterator[Finding]:
    found = differences(service.control.engine)
    yield Finding(
        "control_form", not found,
        f"控制库结构与程序有 {len(found)} 处不同。",
        f"The control database differs from the program in {len(found)} places: {found[:3]}"
        if found else "The control database has exactly the program's tables.",
        "运行 bihuan migrate；若仍不同，请恢复备份。" if found else "",
        "Run `bihuan migrate`; if it stays, restore a backup." if found else "",
    )  # fmt: skip


def _sqlite(service: Service) -> Iterator[Finding]:
    state = sqlite_state(service.control.engine)
    if state is None:
        return
    ok = state.synchronous == "full" and (state.journal != "wal" or not state.has_wal_defect)
    yield Finding(
        "sqlite", ok,
        f"SQLite {state.version}，日志方式 {state.journal}，同步 {state.synchronous}。",
        f"SQLite {state.version}, journal {state.journal}, synchronous {state.synchronous}.",
        "" if ok else "请安装 pysqlite3 0.6 以上版本后重启。",
        "" if ok else "Install pysqlite3 0.6 or later and start again.",
    )  # fmt: skip


def _row_security(service: Service) -> Iterator[Finding]:
    if service.control.engine.dialect.name != "postgresql":
        return
    found = unsecured(service.control.engine)
    yield Finding(
        "row_security", not found,
        "行级权限有效。" if not found else f"行级权限未生效：{'；'.join(found)}。",
        "Row security holds." if not found else f"Row security does not hold: {'; '.join(found)}.",
        "" if not found else "请用非超级用户、无 BYPASSRLS 的角色连接。",
        "" if not found else "Connect as a role that is no superuser and has no BYPASSRLS.",
    )  # fmt: skip


def _audit(service: Service) -> Iterator[Finding]:
    with service.system_work(read_only=True) as work:
        head = work.unscoped(sa.select(AuditHead), "one chain for all units").scalar_one_or_none()
    yield Finding(
        "audit", head is not None,
        f"审计链共 {head.sequence if head else 0} 条。",
        f"The audit chain has {head.sequence if head else 0} entries.",
        "" if head else "运行 bihuan migrate。",
        "" if head else "Run `bihuan migrate`.",
    )  # fmt: skip


def _lake(service: Service) -> Iterator[Finding]:
    tables = service.workspace.view.tables
    yield Finding(
        "lake", True, f"数据湖可读，共 {len(tables)} 张表。",
        f"The lake can be read: {len(tables)} tables.",
    )  # fmt: skip


def _disk(service: Service) -> Iterator[Finding]:
    usage = shutil.disk_usage(service.settings.workspace)
    share = usage.free / usage.total
    ok = share >= ENOUGH_DISK
    yield Finding(
        "disk", ok,
        f"剩余空间 {usage.free / 1e9:.1f} GB（{share:.0%}）。",
        f"{usage.free / 1e9:.1f} GB free ({share:.0%}).",
        "" if ok else "请清理磁盘或扩容，再导入数据或部署。",
        "" if ok else "Make room before you ingest or deploy.",
    )  # fmt: skip


def _keys(service: Service) -> Iterator[Finding]:
    file = service.settings.keys_file
    exists = file.exists()
    ok = exists and file.stat().st_mode & 0o077 == 0
    yield Finding(
        "keys", ok,
        "数据密钥文件就绪。" if ok else "数据密钥文件不存在或他人可读。",
        "The data keys are in place." if ok else "The data keys are missing or readable by others.",
        "" if ok else "运行 bihuan migrate 生成密钥，或用 chmod 600 收紧权限。",
        "" if ok else "Run `bihuan migrate` to make keys, or tighten them with chmod 600.",
    )  # fmt: skip


def _web(service: Service) -> Iterator[Finding]:
    settings = service.settings
    exposed = settings.host not in ("127.0.0.1", "localhost", "::1")
    ok = not exposed or (settings.cookie_secure and not settings.demo)
    yield Finding(
        "web", ok,
        "网络设置合适。" if ok else "服务对外开放，但会话未限 HTTPS 或演示账号仍在。",
        "The network settings fit." if ok else
        "The service is open to others, and its cookie is not limited to HTTPS or demo accounts"
        " are on.",
        "" if ok else "设置 BIHUAN_COOKIE_SECURE=true、BIHUAN_DEMO=false，并置于 HTTPS 之后。",
        "" if ok else "Set BIHUAN_COOKIE_SECURE=true and BIHUAN_DEMO=false, behind HTTPS.",
    )  # fmt: skip


CHECKS: dict[str, Callable[[Service], Iterator[Finding]]] = {
    "control_database": _control_database,
    "control_form": _control_form,
    "sqlite": _sqlite,
    "row_security": _row_security,
    "audit": _audit,
    "keys": _keys,
    "lake": _lake,
    "disk": _disk,
    "web": _web,
}
"""What is looked at, in the order in which to mend."""
