"""What several rooms raise or return is one class, wherever it is imported from."""

from __future__ import annotations

import bihuan.audience
import bihuan.evaluation
import bihuan.kernel
import bihuan.model
import bihuan.tag


def test_what_cannot_be_estimated_is_one_value():
    rooms = (bihuan.audience, bihuan.model, bihuan.evaluation)
    assert {room.NotEstimable for room in rooms} == {bihuan.kernel.NotEstimable}
    assert bihuan.audience.coverage.NotEstimable is bihuan.kernel.NotEstimable


def test_an_unknown_tag_is_one_error():
    assert bihuan.audience.UnknownTagError is bihuan.tag.UnknownTagError
