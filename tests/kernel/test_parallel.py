"""Work shared between the cores."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from bihuan.kernel import core_count, on_each_part


class TestOnEachPart:
    @pytest.mark.parametrize("total", [0, 1, 7, 1_000])
    @pytest.mark.parametrize("parts", [None, 1, 3, 16])
    def test_parts_cover_the_whole_once_and_in_order(self, total, parts):
        found = on_each_part(lambda start, end: list(range(start, end)), total, parts=parts)
        assert [n for part in found for n in part] == list(range(total))
        assert len(found) == (parts or core_count())

    def test_parts_run_on_several_threads(self):
        names = on_each_part(
            lambda _s, _e: (time.sleep(0.02), threading.get_ident())[1], 8, parts=8
        )
        assert len(set(names)) == min(core_count(), 8)

    def test_all_parts_have_ended_when_one_fails(self):
        ended = []

        def work(start: int, _end: int) -> None:
            if start == 0:
                raise ValueError("the first")
            time.sleep(0.05)
            ended.append(start)

        with pytest.raises(ValueError, match="the first"):
            on_each_part(work, 4, parts=4)
        assert sorted(ended) == [1, 2, 3]

    def test_a_child_process_has_a_pool_of_its_own(self):
        on_each_part(lambda start, end: end - start, 10)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(_in_child).get(timeout=20) == 10


def _in_child() -> int:
    return sum(on_each_part(lambda start, end: end - start, 10, parts=4))
