"""Policies are changed under a lock, after a check, in one file that is old or new."""

import threading
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.kernel import DefectError, FixedClock, UserError
from bihuan.kernel.document import DocumentError
from bihuan.pack import PACKS
from bihuan.strategy import PolicyChange, PolicyConflictError, UnknownPolicyError
from bihuan.workspace import policy_desk

OFFERS = """
offers:
  - {offer_id: pack, title: {zh: 包, en: Pack}, kind: addon, products: [p], price: 10, months: 6,
     margin: 5, channels: [sms]}
"""
CAMPAIGN = """
campaign_id: c
title: {zh: a, en: a}
goal: {metric: ordered, target: 0.01, reason: {zh: a, en: a}, needs: {zh: a, en: a},
       starts_on: 2026-11-01, ends_on: 2026-11-30}
audience: everyone
control_share: 0.1
channels: {sms: {capacity: 9, unit_cost: 0.1}}
scripts: {w: {zh: a, en: a}}
mix:
  - {offer: pack, promotion: {zh: a, en: a}, channels: {sms: {script: w, acceptance: 0.1}}}
"""
FRAME = "{policy_id: frame, unit: p, status: approved, budget: 100}"


def open_at(folder: Path) -> bh.Workspace:
    return bh.open_workspace(folder, clock=FixedClock(datetime(2026, 11, 2, tzinfo=UTC)))


@pytest.fixture
def ws(tmp_path: Path) -> bh.Workspace:
    made = open_at(tmp_path / "ws")
    units = pa.table(
        {
            "org_unit_id": ["p", "c1", "c2"],
            "parent_id": [None, "p", "p"],
            "tier": ["province", "city", "city"],
        }
    )
    with made.lake.publication(made.clock) as publication:
        publication.add("org_unit", date(2026, 10, 31), units)
    (made.layout.root / "offers" / "o.yaml").write_text(OFFERS, encoding="utf-8")
    (made.layout.root / "campaigns" / "c.yaml").write_text(CAMPAIGN, encoding="utf-8")
    return made


class TestWrite:
    def test_a_statement_goes_into_the_file_of_its_unit(self, ws: bh.Workspace) -> None:
        written = ws.policies.put(FRAME)
        assert written.file.name == "p.yaml"
        assert written.impact.units == ("p", "c1", "c2")
        assert ws.policies.resolve("c1", "pack").budget == 100
        ws.policies.put("{policy_id: a, unit: c1, status: draft, budget: 50}", file="cities")
        assert {file.name for file in ws.policies.files} == {"p.yaml", "cities.yaml"}
        assert ws.policies.approve("a").file.name == "cities.yaml"
        assert ws.policies.resolve("c1", "pack").budget == 50
        ws.policies.withdraw("a")
        assert ws.policies.resolve("c1", "pack").budget == 100

    def test_a_conflict_is_found_before_anything_is_written(self, ws: bh.Workspace) -> None:
        ws.policies.put(FRAME)
        before = {file: file.read_bytes() for file in ws.policies.files}
        with pytest.raises(PolicyConflictError, match=r"p.yaml"):
            ws.policies.put("{policy_id: a, unit: c1, status: approved, budget: 200}")
        with pytest.raises(PolicyConflictError, match=r"p.yaml"):
            ws.policies.put("{policy_id: a, unit: c1, status: draft, budget: 200}")
        assert {file: file.read_bytes() for file in ws.policies.files} == before

    @pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".hidden"])
    def test_files_lie_in_the_folder_of_policies(self, ws: bh.Workspace, name: str) -> None:
        with pytest.raises(UserError, match="no name of a policy file"):
            ws.policies.put(FRAME, file=name)

    def test_wrong_text_and_unknown_ids_are_told(self, ws: bh.Workspace) -> None:
        with pytest.raises(DocumentError, match="not YAML"):
            ws.policies.put("{policy_id: [")
        with pytest.raises(DocumentError, match="new policy"):
            ws.policies.put("{policy_id: a, unit: c1, status: approved}")
        for act in (ws.policies.approve, ws.policies.withdraw):
            with pytest.raises(UnknownPolicyError, match="'nothing'"):
                act("nothing")

    def test_an_edit_that_would_change_others_is_stopped(
        self, ws: bh.Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: an editor that loses what stood in the file."""
        ws.policies.put(FRAME)
        ws.policies.put("{policy_id: two, unit: p, kind: addon, status: approved, budget: 90}")
        before = ws.policies.files[0].read_bytes()
        edit = policy_desk.edit_text
        monkeypatch.setattr(policy_desk, "edit_text", lambda text, change: edit("", change))
        with pytest.raises(DefectError, match=r"p.yaml would change other policies"):
            ws.policies.put("{policy_id: three, unit: p, offer: pack, status: draft, budget: 1}")
        assert ws.policies.files[0].read_bytes() == before


class TestAtOnce:
    def put_at_once(self, folder: Path) -> set[str]:
        """Put eight statements into one file, each by somebody who opened it by themselves."""
        start = threading.Barrier(8)

        def put(number: int) -> None:
            policies = open_at(folder).policies
            start.wait()
            text = f"{{policy_id: n{number}, unit: c1, kind: addon, status: draft, budget: 5}}"
            with suppress(DefectError):  # without the lock an edit may notice that it is too late
                policies.put(text, file="cities")

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {s.policy_id for s in open_at(folder).policies.book().statements}

    def test_nobody_overwrites_what_another_has_just_written(self, ws: bh.Workspace) -> None:
        assert self.put_at_once(ws.layout.root) == {f"n{number}" for number in range(8)}

    def test_without_the_lock_somebody_would(
        self, ws: bh.Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: no lock, and everybody reads before anybody writes."""
        read = threading.Barrier(8)
        edit = policy_desk.edit_text

        def slow(text: str, change: PolicyChange) -> str:
            read.wait()
            return edit(text, change)

        monkeypatch.setattr(policy_desk, "file_lock", lambda path: nullcontext())
        monkeypatch.setattr(policy_desk, "edit_text", slow)
        assert len(self.put_at_once(ws.layout.root)) < 8


class TestBook:
    def test_what_somebody_writes_by_hand_holds_at_once(self, ws: bh.Workspace) -> None:
        assert ws.policies.find_book() is None  # no policies: nothing is limited
        ws.policies.put(FRAME)
        first = ws.policies.book()
        assert ws.policies.book() is first
        file = ws.policies.files[0]
        file.write_text(file.read_text(encoding="utf-8").replace("100", "77"), encoding="utf-8")
        assert ws.policies.resolve("c1", "pack").budget == 77

    def test_without_org_units_policies_say_so(self, tmp_path: Path) -> None:
        bare = open_at(tmp_path / "bare")
        (bare.layout.root / "policies" / "p.yaml").write_text("policies: []", encoding="utf-8")
        with pytest.raises(UserError, match="has no table org_unit") as caught:
            bare.policies.book()
        assert "policies/" in caught.value.text("zh")

    def test_the_sample_elsewhere_names_statement_and_way_out(self, ws: bh.Workspace) -> None:
        ws.install(PACKS["sample"])
        with pytest.raises(UserError, match=r"(province|city-1301)\.yaml") as caught:
            ws.policies.book()
        assert "change the statement or take it out" in caught.value.text("en")
        assert "修改或删除" in caught.value.text("zh")

    def test_the_tree_of_a_date_is_the_newest_up_to_it(self, ws: bh.Workspace) -> None:
        assert len(ws.policies.tree("2026-11-15")) == 3
        with pytest.raises(UserError, match="no snapshot of 'org_unit'"):
            ws.policies.tree("2026-09-30")


class TestLiveCampaigns:
    def test_ended_and_broken_ones_are_not_live(self, ws: bh.Workspace) -> None:
        folder = ws.layout.root / "campaigns"
        over = CAMPAIGN.replace("2026-11-30", "2026-11-01")
        (folder / "over.yaml").write_text(over, encoding="utf-8")
        (folder / "broken.yaml").write_text(CAMPAIGN.replace("pack", "pak"), encoding="utf-8")
        impact = ws.policies.what_if(PolicyChange.put(ws.policies.statement(FRAME)))
        (found,) = impact.campaigns
        assert found.campaign_id == "c"
        assert [v.kind for v in found.broken] == ["budget"]
        assert impact.customers == {}
