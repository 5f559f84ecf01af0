"""What the report calls the things that a campaign is about."""

from __future__ import annotations

from bihuan.step import tell
from bihuan.strategy.campaign import METRICS


def test_every_metric_has_a_name_for_what_was_gained():
    assert set(tell._GAINED) == set(tell._METRICS) == set(METRICS)
    # customers who stay are kept; they have not answered anything
    assert "response" not in tell._GAINED["retained"].en.casefold()
    assert "响应" not in tell._GAINED["retained"].zh
