"""The workspace: its keys, its lake, whether personal data are sealed, room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from bihuan.data.personal import find_unsealed
from bihuan.server.app.doctor.finding import Bounds, Finding, judged
from bihuan.server.app.service import Service


def look_at_keys(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say whether the data keys are there and nobody else's."""
    del bounds
    file = service.settings.keys_file
    if not file.exists():
        yield judged(
            "keys", False,
            (f"数据密钥文件不存在：{file}。", f"The file of the data keys is missing: {file}."),
            ("请从备份恢复；若从未有过，运行 bihuan migrate 生成。",
             "Restore it from its backup; if there never was one, run `bihuan migrate`."),
        )  # fmt: skip
        return
    mode = file.stat().st_mode & 0o777
    yield judged(
        "keys", mode & 0o077 == 0,
        (f"数据密钥文件权限 {mode:o}。", f"The file of the data keys has the mode {mode:o}."),
        (f"运行 chmod 600 {file}；若他人可能已读取，请更换密钥。",
         f"Run `chmod 600 {file}`; if others may have read it, change the keys."),
    )  # fmt: skip


def look_at_lake(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Read the lake's tables."""
    del bounds
    tables = service.workspace.view.tables
    yield judged(
        "lake", True,
        (f"数据湖可读，共 {len(tables)} 张表。", f"The lake can be read: {len(tables)} tables."),
        ("", ""),
    )  # fmt: skip


def look_at_sealing(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say which snapshots hold personal data in clear."""
    del bounds
    found = find_unsealed(service.workspace.view, service.workspace.contracts)
    told = ", ".join(f"{table}@{day.isoformat()}" for table, day in found[:5])
    yield judged(
        "personal_data", not found,
        ("个人信息均已加密。" if not found else f"{len(found)} 个快照含明文个人信息：{told}。",
         "Personal data are sealed." if not found else
         f"{len(found)} snapshots hold personal data in clear: {told}."),
        ("停止服务后运行 bihuan migrate。", "Stop the service, then run `bihuan migrate`."),
    )  # fmt: skip


def look_at_disk(service: Service, bounds: Bounds) -> Iterator[Finding]:
    """Say how much room is left."""
    usage = shutil.disk_usage(service.settings.workspace)
    share = usage.free / usage.total
    yield judged(
        "disk", share >= bounds.enough_disk,
        (f"剩余空间 {usage.free / 1e9:.1f} GB（{share:.0%}）。",
         f"{usage.free / 1e9:.1f} GB free ({share:.0%})."),
        ("请清理磁盘或扩容，再导入数据或部署。", "Make room before you ingest or deploy."),
    )  # fmt: skip
