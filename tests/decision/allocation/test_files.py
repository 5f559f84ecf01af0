"""Customers in files: the same plan as in memory, in blocks, stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bihuan.decision import AllocationError, Limit, Pairs, allocate, open_pairs
from bihuan.decision.allocation import files as room
from bihuan.decision.allocation import solve
from bihuan.decision.allocation.files import PairFiles, allocate_files, write_pairs
from bihuan.kernel import Cancelled, CancelToken, SilentProgress, random_stream


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROWS", 700)
    monkeypatch.setattr(solve, "SAMPLE", 600)
    monkeypatch.setattr(solve, "DIRECT", -1)


def town(n: int = 4000, seed: int = 1) -> tuple[Pairs, list[Limit]]:
    rng = random_stream(seed, "test", "files")
    value = rng.lognormal(1, 0.8, (n, 4)).astype(np.float32)
    value[rng.random((n, 4)) < 0.4] = np.nan
    pairs = open_pairs(value, rng.integers(0, 2, n).astype(np.uint8), 2)
    first, second = np.array([True, False]), np.array([False, True])
    limits = [
        Limit("seats", "capacity", np.array([1.0, 0, 0, 0]), n // 10),
        Limit("texts", "capacity", np.array([0.0, 1, 1, 0]), n // 5),
        Limit("in one", "maximum", np.array([1.0, 0, 0, 0]), n // 25, first),
        Limit("in two, least", "minimum", np.array([0.0, 0, 0, 1.0]), n // 8, second),
    ]
    return pairs, limits


def parts_of(folder: Path, pairs: Pairs) -> PairFiles:
    ids = pa.array([f"C{i:06d}" for i in range(pairs.n_customers)])
    half = pairs.n_customers // 2
    for i, rows in enumerate((np.arange(half), np.arange(half, pairs.n_customers))):
        write_pairs(folder / f"part-{i}.parquet", pairs.take(rows), customer_id=ids.take(rows))
    return PairFiles(tuple(sorted(folder.glob("*.parquet"))), pairs.n_candidates, pairs.n_groups)


def written(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))


@pytest.mark.usefixtures("small_blocks")
class TestAllocateFiles:
    def test_is_the_plan_that_memory_would_give(self, tmp_path):
        pairs, limits = town()
        files = parts_of(tmp_path, pairs)
        plan = allocate_files(files, limits, tmp_path / "out", tolerance=1e-4)
        whole = allocate(pairs, limits, tolerance=1e-4)
        assert plan.value == pytest.approx(whole.value, rel=1e-6)
        assert plan.bound == pytest.approx(whole.bound, rel=1e-6)
        rows = written(tmp_path / "out").to_pydict()
        assert rows["customer_id"] == [f"C{i:06d}" for i in range(pairs.n_customers)]
        mine = [row[0] if row else -1 for row in rows["contacts"]]
        assert sum(j >= 0 for j in mine) == int((whole.contacts >= 0).sum())
        assert sum(j == 0 for j in mine) == plan.limits[0].usage

    def test_goes_on_where_it_was_stopped(self, tmp_path):
        pairs, limits = town()
        files = parts_of(tmp_path, pairs)
        whole = allocate_files(files, limits, tmp_path / "whole", tolerance=1e-4)
        steps = _Counting(CancelToken())
        allocate_files(files, limits, tmp_path / "counted", tolerance=1e-4, progress=steps)
        after = []
        for stop_at in (steps.done // 3, steps.done - 2):
            token = CancelToken()
            with pytest.raises(Cancelled):
                allocate_files(
                    files, limits, tmp_path / "out", tolerance=1e-4,
                    progress=_Counting(token, stop_at),
                )  # fmt: skip
            assert not (tmp_path / "out").exists(), "whole or not at all"
            again = _Counting(CancelToken())
            plan = allocate_files(files, limits, tmp_path / "out", tolerance=1e-4, progress=again)
            assert plan.value == pytest.approx(whole.value, rel=1e-6)
            after.append(again.done)
            for path in (tmp_path / "out").glob("*"):
                path.unlink()
            (tmp_path / "out").rmdir()
        assert after[1] < steps.done / 3, "what was settled before the stop is not done again"

    def test_what_was_kept_for_other_limits_is_not_used(self, tmp_path):
        pairs, limits = town()
        files = parts_of(tmp_path, pairs)
        steps = _Counting(CancelToken())
        allocate_files(files, limits, tmp_path / "counted", progress=steps)
        with pytest.raises(Cancelled):
            allocate_files(
                files, limits, tmp_path / "out",
                progress=_Counting(CancelToken(), steps.done - 2),
            )  # fmt: skip
        limits[0] = Limit("seats", "capacity", np.array([1.0, 0, 0, 0]), 13)
        plan = allocate_files(files, limits, tmp_path / "out", tolerance=1e-4)
        assert plan.limits[0].usage <= 13
        assert plan.gap <= 1e-3

    @pytest.mark.parametrize("changed", ["penalty", "tolerance"])
    def test_what_was_kept_for_another_order_is_not_used(self, tmp_path, changed):
        pairs, limits = town()
        files = parts_of(tmp_path, pairs)
        steps = _Counting(CancelToken())
        allocate_files(files, limits, tmp_path / "counted", progress=steps)
        with pytest.raises(Cancelled):
            allocate_files(
                files, limits, tmp_path / "out",
                progress=_Counting(CancelToken(), steps.done - 2),
            )  # fmt: skip
        tolerance = 1e-3
        if changed == "penalty":
            limits[-1] = replace(limits[-1], penalty=77.0)
        else:
            tolerance = 2e-3
        again = _Counting(CancelToken())
        allocate_files(files, limits, tmp_path / "out", tolerance=tolerance, progress=again)
        assert again.done > steps.done / 2, "nothing of the other order was taken over"

    def test_lists_that_do_not_fit_are_refused(self, tmp_path):
        path = tmp_path / "part-0.parquet"
        table = pa.table({
            "group": pa.array([0], pa.uint8()),
            "candidate": pa.array([[0, 1]], pa.list_(pa.uint8())),
            "value": pa.array([[1.0]], pa.list_(pa.float32())),
        })  # fmt: skip
        pq.write_table(table, path)
        with pytest.raises(AllocationError, match="differ in length"):
            allocate_files(PairFiles((path,), 2), [], tmp_path / "out")


class _Counting(SilentProgress):
    """Counts what is reported, and stops at a given count."""

    def __init__(self, token: CancelToken, stop_at: int | None = None) -> None:
        super().__init__(token)
        self.done, self._stop_at = 0, stop_at

    def task(self, label, *, total=None, unit=""):
        from contextlib import contextmanager

        @contextmanager
        def opened():
            with super(_Counting, self).task(label, total=total, unit=unit) as inner:
                outer = self

                class Task:
                    def advance(self, amount: float = 1) -> None:
                        outer.done += 1
                        if outer._stop_at is not None and outer.done >= outer._stop_at:
                            outer.token.cancel()
                        inner.advance(amount)

                yield Task()

        return opened()
