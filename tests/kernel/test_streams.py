from __future__ import annotations

import numpy as np

from bihuan.kernel import random_stream


class TestRandomStream:
    def test_the_same_seed_and_purpose_give_the_same_numbers(self):
        one, two = random_stream(7, "assign", "C1"), random_stream(7, "assign", "C1")
        assert np.array_equal(one.random(100), two.random(100))

    def test_the_numbers_are_the_same_on_every_machine(self):
        drawn = random_stream(7, "assign").integers(0, 1_000_000, 4)
        assert drawn.tolist() == [683889, 949726, 976085, 929346]

    def test_another_purpose_or_seed_gives_others(self):
        streams = [
            random_stream(7, "assign"),
            random_stream(8, "assign"),
            random_stream(7, "twin"),
            random_stream(7, "assign", 1),
            random_stream(7, "assign", "1"),
            random_stream(7),
        ]
        drawn = [tuple(stream.integers(0, 2**63, 4)) for stream in streams]
        assert len(set(drawn)) == len(drawn)

    def test_purposes_are_kept_apart(self):
        assert random_stream(1, "ab", "c").random() != random_stream(1, "a", "bc").random()

    def test_streams_of_two_purposes_are_not_correlated(self):
        a, b = random_stream(3, "a").normal(size=20_000), random_stream(3, "b").normal(size=20_000)
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(20_000)

    def test_a_draw_in_one_stream_leaves_the_other_alone(self):
        alone = random_stream(5, "b").random(3)
        other, disturbed = random_stream(5, "a"), random_stream(5, "b")
        other.random(1000)
        assert np.array_equal(alone, disturbed.random(3))
