"""The kinds of the ledger are known to the tests as to their workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bihuan.server.app import job as jobs
from bihuan.server.app.job import kind as kinds

from .fleet import Zygote
from .ledger_worker import Gate, Steps, run_gate, run_ledger


@pytest.fixture(autouse=True)
def ledger_kinds() -> Iterator[None]:
    jobs.list_kinds()
    before = dict(kinds._KINDS)
    title = {"zh": "账", "en": "ledger"}
    jobs.register(jobs.Kind("ledger", title, "job.run", Steps, run_ledger, attempts=99))
    jobs.register(jobs.Kind("gate", title, "job.run", Gate, run_gate))
    yield
    kinds._KINDS.clear()
    kinds._KINDS.update(before)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.end()
