"""The control database: its form, how safely it writes, who may read it, its audit trail."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from bihuan.server.app.doctor.finding import Bounds, Finding, judged
from bihuan.server.app.personal import sealer_of
from bihuan.server.app.service import Service
from bihuan.server.control import (
    AuditHead,
    current_revision,
    differences,
    newest_revision,
    sqlite_state,
    unguarded,
    unsecured,
    verify_tail,
)


def look_at_revision(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether the database has the program's form."""
    del bounds
    current, newest = current_revision(service.control.engine), newest_revision()
    yield judged(
        "control_database", current == newest,
        (f"控制库版本 {current or '空'}，程序版本 {newest}。",
         f"The control database has the form {current or 'none'}, the program {newest}."),
        ("备份后运行 bihuan migrate。", "Make a backup, then run `bihuan migrate`."),
    )  # fmt: skip


def look_at_form(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether the tables are those of that form."""
    del bounds
    found = differences(service.control.engine)
    yield judged(
        "control_form", not found,
        (f"控制库结构与程序有 {len(found)} 处不同。",
         f"The control database differs from the program in {len(found)} places: {found[:3]}"
         if found else "The control database has exactly the program's tables."),
        ("运行 bihuan migrate；若仍不同，请恢复备份。",
         "Run `bihuan migrate`; if it stays, restore a backup."),
    )  # fmt: skip


def look_at_sqlite(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether SQLite keeps what was committed."""
    del bounds
    state = sqlite_state(service.control.engine)
    if state is None:
        return
    yield judged(
        "sqlite", state.synchronous == "full" and (state.journal != "wal" or
                                                   not state.has_wal_defect),
        (f"SQLite {state.version}，日志方式 {state.journal}，同步 {state.synchronous}。",
         f"SQLite {state.version}, journal {state.journal}, synchronous {state.synchronous}."),
        ("请安装 pysqlite3 0.6 以上版本后重启。",
         "Install pysqlite3 0.6 or later and start again."),
    )  # fmt: skip


def look_at_row_security(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether PostgreSQL itself keeps units apart."""
    del bounds
    if service.control.engine.dialect.name != "postgresql":
        return
    found = unsecured(service.control.engine)
    told = "; ".join(found[:3])
    yield judged(
        "row_security", not found,
        ("行级权限有效。" if not found else f"行级权限未生效：{told}。",
         "Row security holds." if not found else f"Row security does not hold: {told}."),
        ("请用非超级用户、无 BYPASSRLS 的角色连接，并运行 bihuan migrate。",
         "Connect as a role that is no superuser and has no BYPASSRLS; run `bihuan migrate`."),
    )  # fmt: skip


def look_at_guards(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether the database refuses to change audit entries."""
    del bounds
    with service.control.engine.connect() as connection:
        found = unguarded(connection)
    told = ", ".join(found)
    yield judged(
        "audit_guards", not found,
        ("审计表只可追加。" if not found else f"审计表缺少防改触发器：{told}。",
         "The audit tables are append-only." if not found else
         f"The audit tables lack guards: {told}."),
        ("请查明是谁移除的，再运行 bihuan audit verify，并从备份恢复触发器或联系支持。",
         "Find out who removed them, run `bihuan audit verify`, and restore them from a backup."),
    )  # fmt: skip


def look_at_trail(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Verify the newest audit entries and their marks."""
    with service.system_work(read_only=True) as work:
        head = work.unscoped(sa.select(AuditHead), "one chain for all units").scalar_one_or_none()
        if head is None:
            yield judged("audit", False, ("审计链没有链头。", "The audit chain has no head."),
                         ("运行 bihuan migrate。", "Run `bihuan migrate`."))  # fmt: skip
            return
        sealer = sealer_of(service) if service.settings.keys_file.exists() else None
        report = verify_tail(work, sealer, bounds.audit_entries)
    broken = report.broken
    yield judged(
        "audit", broken is None,
        (f"审计链共 {head.sequence} 条，最新 {report.entries} 条校验无误。" if broken is None else
         f"审计链在第 {broken.sequence} 条断裂（{broken.kind}）。",
         f"The audit chain has {head.sequence} entries; the newest {report.entries} hold."
         if broken is None else
         f"The audit chain breaks at entry {broken.sequence} ({broken.kind})."),
        ("请保持数据库原状，运行 bihuan audit verify，并与导出的链头和备份比对。",
         "Keep the database as it is, run `bihuan audit verify`, and compare with exported heads"
         " and backups."),
    )  # fmt: skip
