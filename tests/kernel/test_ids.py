from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.kernel import canonical_json, hash_id

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.dates() | st.decimals(places=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestCanonicalJson:
    def test_the_order_of_keys_does_not_matter(self):
        assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})

    def test_chinese_stays_readable(self):
        assert canonical_json({"名": "张三"}) == '{"名":"张三"}'

    def test_dates_times_and_decimals_are_texts(self):
        value = [date(2026, 10, 31), datetime(2026, 10, 31, 8, tzinfo=UTC), Decimal("1.20")]
        assert canonical_json(value) == '["2026-10-31","2026-10-31T08:00:00+00:00","1.20"]'

    def test_a_value_of_another_type_is_refused(self):
        with pytest.raises(TypeError, match="set"):
            canonical_json({"a": {1}})

    @given(st.dictionaries(st.text(), plain, max_size=6))
    def test_insertion_order_never_shows(self, value):
        backwards = dict(reversed(list(value.items())))
        assert canonical_json(value) == canonical_json(backwards)


class TestHashId:
    def test_parts_are_kept_apart(self):
        assert hash_id("ab", "c") != hash_id("a", "bc")
        assert hash_id("a", None) != hash_id("a")
        assert hash_id(1) != hash_id("1")

    @pytest.mark.parametrize("length", [8, 20, 64])
    def test_the_length_is_the_one_asked_for(self, length):
        assert len(hash_id("x", length=length)) == length
        assert hash_id("x", length=64).startswith(hash_id("x", length=length))

    def test_it_is_the_same_in_another_process(self):
        # Python's own hash() of a text differs from process to process
        code = "from bihuan.kernel import hash_id; print(hash_id('客户', 7))"
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == hash_id("客户", 7)

    @given(plain, plain)
    def test_different_things_have_different_ids(self, one, other):
        if canonical_json(one) != canonical_json(other):
            assert hash_id(one) != hash_id(other)
