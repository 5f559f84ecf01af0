"""The file of rehearsals: what is damaged is named, what a clerk types is read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

import bihuan as bh
from bihuan.cli.rehearse import _sample
from bihuan.decision.rehearsal import DailyCapacity
from bihuan.kernel import FixedClock, UserError


@pytest.fixture
def ws(tmp_path):
    clock = FixedClock(datetime(2026, 11, 2, tzinfo=UTC))
    return bh.open_workspace(tmp_path / "ws", clock=clock)


class TestFile:
    def test_nothing_is_filed_at_first(self, ws):
        assert ws.rehearsals.list() == ()

    @pytest.mark.parametrize("text", ["{", "[]", '{"rehearsal_id": "x"}'])
    def test_a_damaged_file_is_named(self, ws, text):
        path = ws.rehearsals.folder / "c0" / "abc.json"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"abc\.json in rehearsals/ is not a filed") as told:
            ws.rehearsals.list()
        assert "abc.json" in told.value.zh
        with pytest.raises(UserError, match="not a filed rehearsal"):
            ws.rehearsals.get("abc")

    def test_terms_are_those_of_the_folder(self, ws):
        assert ws.rehearsals.terms.windows == {30: 2, 90: 4}
        (ws.layout.root / "rehearsal.yaml").write_text(
            "daily_capacity: {outbound: {all: 208}}", encoding="utf-8"
        )
        assert ws.rehearsals.terms.capacity == DailyCapacity({"outbound": 208.0}, {})


class TestSample:
    @pytest.mark.parametrize(
        ("text", "sample"), [("", None), ("5000", 5000), ("10%", 0.1), (" 0.25 ", 0.25)]
    )
    def test_a_number_or_a_share(self, text, sample):
        assert _sample(text) == sample

    @pytest.mark.parametrize("text", ["many", "ten%", "1e", "--"])
    def test_what_is_no_number_is_refused(self, text):
        with pytest.raises(typer.BadParameter, match="no number"):
            _sample(text)
