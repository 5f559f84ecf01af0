"""A service as people meet it: ``bihuan serve`` in a process of its own, over HTTP."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

import bihuan as bh
from bihuan.demo.service import lay_out_service
from bihuan.pack import PACKS
from bihuan.tag import LIBRARY_FOLDER
from bihuan.twin import TwinSettings, generate_operator

from .by_hand import OCTOBER, open_at

TWIN = TwinSettings(customers=2_000, months=3, seed=11)
TAGS = ("customer_base", "customer_spending", "customer_usage")
PASSWORD = "bihuan-demo-2026"


class Person:
    """Somebody signed in: a client that sends cookie and CSRF token, and fresh keys by itself."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.http = httpx2.Client(base_url=f"{url}/api/v1", timeout=60)
        answer = self.http.post("/sessions", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        self.http.headers["X-CSRF-Token"] = answer.json()["csrf"]
        self._keys = 0

    def get(self, path: str, **params: object) -> httpx2.Response:
        return self.http.get(path, params=params)

    def post(
        self, path: str, body: object = None, *, match: str = "", key: str = ""
    ) -> httpx2.Response:
        self._keys += 1
        headers = {"Idempotency-Key": key or f"{self.name}-{self._keys}-{os.urandom(4).hex()}"}
        if match:
            headers["If-Match"] = match
        return self.http.post(path, json=body, headers=headers)

    def put(self, path: str, body: object, *, match: str) -> httpx2.Response:
        return self.http.put(path, json=body, headers={"If-Match": match})

    def delete(self, path: str, *, match: str = "") -> httpx2.Response:
        return self.http.delete(path, headers={"If-Match": match} if match else {})

    def do(self, path: str, body: object = None) -> dict:
        """Do something to the thing at ``path``'s parent as it stands now; it must succeed."""
        thing = self.get(path.rsplit("/", 1)[0])
        assert thing.status_code == 200, thing.text
        answer = self.post(path, body, match=thing.headers.get("ETag", ""))
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else {}

    def make(self, path: str, body: object) -> dict:
        """Create something; it must succeed."""
        answer = self.post(path, body)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()

    def see(self, path: str, **params: object) -> dict:
        """Read something; it must be there."""
        answer = self.get(path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()


def lay_out(folder: Path) -> bh.Workspace:
    """Build a workspace of 2,000 simulated customers, with people who can sign in."""
    ws = open_at(folder)
    ws.install(PACKS["sample"])
    for name in TAGS:
        shutil.copy(LIBRARY_FOLDER / f"{name}.yaml", ws.layout.definitions("tags"))
    ws = open_at(folder)
    generate_operator(TWIN, ws.lake, ws.contracts, clock=ws.clock, progress=ws.progress)
    ws.refresh_tags(OCTOBER)
    ws.index_tags(OCTOBER)
    lay_out_service(folder, whole_province=False)
    return ws


@contextmanager
def serving(folder: Path, *, worker: bool = True, **settings: str) -> Iterator[str]:
    """Run ``bihuan serve`` over a workspace; yield its address; end it."""
    environment = {
        **os.environ, "BIHUAN_RATE_PER_MINUTE": "1000000", "BIHUAN_SIGN_IN_PER_MINUTE": "10000",
        "BIHUAN_LOG_LEVEL": "error", "BIHUAN_PROCESSES": "1", **settings,
    }  # fmt: skip
    command = [sys.executable, "-m", "bihuan.cli", "serve", "-w", str(folder), "--port", "0"]
    command += [] if worker else ["--no-with-worker"]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://[^/\s]+", line)
            assert found, (folder / "serve.log").read_text()
            yield found[0]
        finally:
            process.terminate()
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A running service; ``served.enter(name)`` signs a demo account in."""
    folder = tmp_path_factory.mktemp("served") / "ws"
    ws = lay_out(folder)
    with serving(folder) as url:
        people: dict[str, Person] = {}

        def enter(name: str) -> Person:
            if name not in people:
                people[name] = Person(url, name)
            return people[name]

        yield SimpleNamespace(url=url, enter=enter, folder=folder, ws=ws)
        for person in people.values():
            person.http.close()
