"""Learning models of the catalogue: what is learnt, what cannot be, and what a stop leaves."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.data import DuckDBEngine
from bihuan.kernel import Cancelled, CancelToken, FixedClock, SilentProgress
from bihuan.model import ModelCatalogue
from bihuan.step.run_catalogue import ModelRun, RunRecord, run_catalogue

SEPTEMBER, OCTOBER = date(2026, 9, 30), date(2026, 10, 31)
CLOCK = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
TAGS = """
defaults: {subject: customer, layer: base, owner: 甲, state: live, means: statistics,
           category: 消费/账单/月, meaning: {zh: 甲, en: A}, definition: {zh: 甲, en: A}}
tags:
  - {name: bill, title: {zh: 账, en: Bill}, type: number, source: bill, expression: sum(amount)}
  - {name: noise, title: {zh: 噪, en: Noise}, type: number, source: usage,
     expression: sum(voice_minutes)}
  - {name: gone, title: {zh: 离, en: Gone}, type: boolean, source: subscription,
     expression: bool_or(left_in_month), default: false}
  - {name: absent, title: {zh: 缺, en: Absent}, type: number, source: ticket, expression: count(*)}
"""
CATALOGUE = """
segments:
  all: {title: {zh: 全部, en: all}}
  few: {title: {zh: 少数, en: few}, rule: "bill > 1e9"}
defaults: {business: mobile, owner: 甲}
targets:
  - {name: leave, title: {zh: 离, en: Leave}, meaning: {zh: 离, en: Leaves}, scene: retention,
     label: gone, features: [bill, noise], segments: [all, few]}
  - {name: blind, title: {zh: 盲, en: Blind}, meaning: {zh: 盲, en: Blind}, scene: retention,
     label: gone, population: "noise > 0", features: [noise]}
  - {name: lost, title: {zh: 缺, en: Lost}, meaning: {zh: 缺, en: Lost}, scene: retention,
     label: "absent > 0", features: [bill]}
"""
N = 3000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Customers of whom those with a high bill in September leave in October more often."""
    ws = bh.open_workspace(
        tmp_path_factory.mktemp("run") / "ws", clock=CLOCK, engine=DuckDBEngine(threads=1)
    )
    (ws.layout.root / "tags" / "t.yaml").write_text(TAGS, encoding="utf-8")
    rng = np.random.default_rng(5)
    ids = [f"C{i:05d}" for i in range(N)]
    bill = rng.gamma(2.0, 40.0, N).round(2)
    leaves = rng.random(N) < 1 / (1 + np.exp(-(bill - 160) / 25))
    with ws.lake.publication(ws.clock) as publication:
        for day, gone in ((SEPTEMBER, np.zeros(N, bool)), (OCTOBER, leaves)):
            kept = np.arange(N) if day == SEPTEMBER else np.arange(N)[::-1]  # another order
            rows = {
                "customer": {"customer_id": ids},
                "bill": {"customer_id": ids, "amount": bill, "account_id": ids,
                         "subscription_id": ids},
                "usage": {"customer_id": ids, "subscription_id": ids,
                          "voice_minutes": rng.random(N)},
                "subscription": {"customer_id": ids, "subscription_id": ids,
                                 "left_in_month": gone, "status": ["active"] * N},
            }  # fmt: skip
            for name, columns in rows.items():
                schema = pa.schema([ws.contracts[name].schema.field(c) for c in columns])
                table = pa.table({c: pa.array(v) for c, v in columns.items()}).cast(schema)
                publication.add(name, day, table.take(pa.array(kept)), lineage={})
    for day in (SEPTEMBER, OCTOBER):
        ws.refresh_tags(day)
    folder = ws.layout.root / "models" / "own"
    folder.mkdir(parents=True)
    (folder / "c.yaml").write_text(CATALOGUE, encoding="utf-8")
    return ws, ModelCatalogue.load(folder).bind(ws.dictionary)


@pytest.fixture
def record(tmp_path) -> RunRecord:
    return RunRecord(tmp_path / "runs.jsonl")


class TestRun:
    def test_what_can_be_learnt_is_and_the_rest_says_why(self, world, record):
        ws, models = world
        runs = {r.model: r for r in run_catalogue(ws.rooms, models, OCTOBER, record=record)}
        assert {name: r.state for name, r in runs.items()} == {
            "leave": "done", "leave_few": "not_estimable", "blind": "done",
            "lost": "not_estimable",
        }  # fmt: skip
        # the bill tells, the noise does not: the answer stands beside the right customer
        assert runs["leave"].auc > 0.8
        assert 0.4 < runs["blind"].auc < 0.6
        assert runs["leave"].rows == N
        assert "Of 0 subjects 0" in runs["leave_few"].reason["en"]
        assert "absent" in runs["lost"].reason["zh"]
        assert [e.name for e in ws.registry.list("leave")] == ["leave"]
        assert ws.registry.list("leave")[0].version == runs["leave"].version
        assert set(record.newest()) == set(runs)

    def test_features_are_of_the_month_before(self, world, record):
        ws, models = world
        (leave,) = [m for m in models if m.model.name == "leave"]
        run = run_catalogue(ws.rooms, [leave], OCTOBER, record=record)[0]
        card = ws.registry.load("leave", run.version).card
        assert card.data.as_of == ("2026-09-30",)
        assert card.data.lineage["answered"] == "2026-10-31"

    def test_a_sample_is_the_same_customers_at_both_dates(self, world, record):
        ws, models = world
        (leave,) = [m for m in models if m.model.name == "leave"]
        run = run_catalogue(ws.rooms, [leave], OCTOBER, record=record, sample_rows=1000)[0]
        assert 800 < run.rows < 1200
        assert run.auc > 0.75  # had the rows been mixed up, it would be near one half

    def test_the_check_sees_answers_beside_the_wrong_customers(self, world, record, monkeypatch):
        from bihuan.step import run_catalogue as module

        ws, models = world
        (leave,) = [m for m in models if m.model.name == "leave"]
        real = module._flags

        def shuffled(rooms, tags, nodes, part):
            flags = real(rooms, tags, nodes, part)
            mixed = np.random.default_rng(0).permutation(len(flags.ids))
            return module._Flags(flags.ids, {n: f[mixed] for n, f in flags.of.items()})

        monkeypatch.setattr(module, "_flags", shuffled)
        run = run_catalogue(ws.rooms, [leave], OCTOBER, record=record)[0]
        assert run.auc < 0.6

    def test_without_a_month_before_nothing_is_estimable(self, world, record):
        ws, models = world
        runs = run_catalogue(ws.rooms, models, SEPTEMBER, record=record)
        assert {r.state for r in runs} == {"not_estimable"}
        assert "1 month(s) before" in runs[0].reason["en"]


class TestStop:
    def test_a_stopped_run_goes_on_where_it_was(self, world, record):
        ws, models = world

        class StopsAtSecond(SilentProgress):
            pass

        token = CancelToken()
        progress = StopsAtSecond(token)
        real = record.append

        class Recording(RunRecord):
            def append(self, run: ModelRun) -> None:
                real(run)
                token.cancel()

        stopped = Recording(record._path)
        ws.progress = progress
        try:
            with pytest.raises(Cancelled):
                run_catalogue(ws.rooms, models, OCTOBER, record=stopped)
        finally:
            ws.progress = SilentProgress()
        assert [r.model for r in record.read()] == ["leave"]
        runs = run_catalogue(ws.rooms, models, OCTOBER, record=record)
        assert len(runs) == 4
        assert [r.model for r in record.read()] == ["leave", "leave_few", "blind", "lost"]
        assert runs[0] == record.read()[0]

    def test_the_half_line_of_a_killed_writer_is_dropped(self, record):
        run = ModelRun("a", "o", "2026-10-31", "done", "now")
        record.append(run)
        with record._path.open("ab") as file:
            file.write(b'{"model": "b", ')
        assert record.read() == (run,)
        record.append(run)
        assert record.read() == (run, run)
