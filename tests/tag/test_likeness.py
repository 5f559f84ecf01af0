"""Tags that say the same of every subject are found, and no others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bihuan.tag.desk.likeness import _alike_numbers, _alike_texts


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def pairs(found) -> set[tuple[str, str]]:
    return {(pair.first, pair.second) for pair in found}


class TestNumbers:
    def test_another_scale_sign_or_type_does_not_hide_it(self, rng):
        base = rng.gamma(2, 50, 500)
        days = np.datetime64("2026-01-01") + (base * 10).astype("timedelta64[D]")
        table = pa.table(
            {
                "a": base, "cents": base * 100 + 3, "minus": -base,
                "noisy": base + rng.normal(0, 40, 500),
                "days": pa.array(days.astype("datetime64[D]")), "big": base * 1e12 + 1e15,
                "flag": base > 100, "number": (base > 100).astype(float),
            }
        )  # fmt: skip
        found = pairs(_alike_numbers(table, table.column_names, 0.999))
        same = ["a", "big", "cents", "days", "minus"]
        wanted = {(x, y) for i, x in enumerate(same) for y in same[i + 1 :]} | {("flag", "number")}
        assert found == wanted

    def test_correlation_is_that_of_the_rows_that_both_know(self, rng):
        base = rng.normal(size=4000)
        other = base + rng.normal(0, 0.02, 4000)
        gap = rng.random(4000) < 0.0004
        a, b = np.where(gap, np.nan, base), other
        table = pa.table({"a": a, "b": b})
        (pair,) = _alike_numbers(table, ["a", "b"], 0.99)
        known = ~np.isnan(a)
        assert pair.correlation == pytest.approx(np.corrcoef(a[known], b[known])[0, 1], abs=1e-9)
        assert pair.rows == known.sum()

    def test_a_tag_that_is_known_of_others_is_another_tag(self, rng):
        base = rng.normal(size=1000)
        half = np.where(np.arange(1000) % 2 == 0, base, np.nan)
        assert _alike_numbers(pa.table({"a": base, "b": half}), ["a", "b"], 0.999) == []

    def test_constants_and_few_rows_say_nothing(self):
        few = [float(i) if i < 20 else None for i in range(100)]
        table = pa.table({"a": [1.0] * 100, "b": [1.0] * 100, "c": few, "d": few})
        assert _alike_numbers(table, table.column_names, 0.999) == []


class TestTexts:
    def test_other_words_for_the_same_parts_are_found(self, rng):
        codes = rng.integers(0, 3, 300)
        table = pa.table(
            {
                "zh": np.array(["低", "中", "高"])[codes].tolist(),
                "en": np.array(["low", "mid", "high"])[codes].tolist(),
                "other": np.array(["x", "y"])[rng.integers(0, 2, 300)].tolist(),
                "merged": np.array(["l", "l", "h"])[codes].tolist(),
            }
        )
        assert pairs(_alike_texts(table, table.column_names)) == {("en", "zh")}
