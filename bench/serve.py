"""200 people at once on one server process, over the province org; mixed reads.

A province of 14,700 people is laid out, the service is started as people start it (``bihuan
serve``), and 200 users sign in with the demo accounts. Each user asks one thing, reads for a
second (exponential pauses), asks the next: lists, single rows, trees, counts, in fixed shares.
Beside it, without pauses: how many answers a second the process gives at most. Client and server
share the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from bihuan.demo.service import DEMO_PASSWORD, lay_out_service
from bihuan.kernel import random_stream
from bihuan.workspace import open_workspace

SEED = 20261122
SECONDS = 30
PAUSE = 1.0
ACCOUNTS = ("demo-planner", "demo-approver", "demo-director", "demo-administrator")
READS: tuple[tuple[str, float], ...] = (
    ("/api/v1/me", 2),
    ("/api/v1/org-units?limit=50", 3),
    ("/api/v1/org-units/city-1301", 2),
    ("/api/v1/staff?limit=50", 2),
    ("/api/v1/plans?limit=50", 4),
    ("/api/v1/knowledge-entries?limit=20", 1),
    ("/api/v1/indicators?limit=50", 1),
    ("/api/v1/scenes?limit=50", 1),
)
"""What users ask, and how often."""


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Measure answers of one server process; return quantiles in milliseconds.

    Parameters
    ----------
    size
        Users; None = 200.
    instance
        Not used.
    out
        Folder of the workspace; None = a temporary one, removed at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-serve-")) if out is None else out
    try:
        return _run(size or 200, folder / "workspace")
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(users: int, folder: Path) -> dict[str, Any]:
    open_workspace(folder)
    started = time.perf_counter()
    laid = lay_out_service(folder, whole_province=True)
    seconds = time.perf_counter() - started
    environment = {
        **os.environ,
        "BIHUAN_RATE_PER_MINUTE": "10000000",
        "BIHUAN_SIGN_IN_PER_MINUTE": "100000",
        "BIHUAN_LOG_LEVEL": "warning",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "bihuan.cli", "serve", "-w", str(folder), "--port", "0"],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        port = int(re.search(r":(\d+)/", server.stdout.readline())[1])  # type: ignore[index]
        headers = _sign_in(port)
        people = asyncio.run(_load(port, headers, users, PAUSE))
        most = asyncio.run(_load(port, headers, 8, 0.0))
    finally:
        server.terminate()
        server.wait(30)
    figures = {
        "users": users,
        "org_units": laid.units,
        "staff": laid.people,
        "lay_out_seconds": seconds,
        **{f"people_{name}": value for name, value in _told(people).items()},
        **{f"most_{name}": value for name, value in _told(most).items()},
    }
    return {
        **figures,
        "table": [
            {"what": f"{users} users, a pause of {PAUSE:g} s each", **_told(people)},
            {"what": "8 callers without pauses", **_told(most)},
        ],
    }


def _sign_in(port: int) -> list[str]:
    found = []
    for name in ACCOUNTS:
        answer = httpx2.post(
            f"http://127.0.0.1:{port}/api/v1/sessions",
            json={"name": name, "password": DEMO_PASSWORD},
        )
        answer.raise_for_status()
        found.append("; ".join(f"{k}={v}" for k, v in answer.cookies.items()))
    return found


async def _load(port: int, cookies: list[str], users: int, pause: float) -> list[float]:
    chance = random_stream(SEED, "bench", "serve")
    paths = [path for path, _ in READS]
    weights = np.array([weight for _, weight in READS])
    times: list[float] = []
    end = time.perf_counter() + SECONDS

    async def user(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        cookie = cookies[number % len(cookies)]
        await asyncio.sleep(float(chance.uniform(0, pause)) if pause else 0)
        while time.perf_counter() < end:
            path = paths[int(chance.choice(len(paths), p=weights / weights.sum()))]
            started = time.perf_counter()
            status = await _get(reader, writer, path, cookie)
            times.append(time.perf_counter() - started)
            if status != 200:
                raise AssertionError(f"{path}: {status}")
            if pause:
                await asyncio.sleep(float(chance.exponential(pause)))
        writer.close()

    await asyncio.gather(*(user(number) for number in range(users)))
    return times


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, cookie: str
) -> int:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
    await reader.readexactly(length)
    return int(head.split(" ", 2)[1])


def _told(times: list[float]) -> dict[str, float]:
    at = np.quantile(np.array(times) * 1000, (0.5, 0.95, 0.99))
    return {
        "answers/s": round(len(times) / SECONDS, 1),
        "p50 ms": round(float(at[0]), 1),
        "p95 ms": round(float(at[1]), 1),
        "p99 ms": round(float(at[2]), 1),
    }


if __name__ == "__main__":
    print(json.dumps(run(None, None, None)))
