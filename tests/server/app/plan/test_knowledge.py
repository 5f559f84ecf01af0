"""The knowledge base: written, reviewed by another, found, linked, voted on."""

from __future__ import annotations

import pytest

from bihuan.server.app import knowledge
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.knowledge import Entry
from bihuan.server.app.plan.library import marks_of, vote

from .office import Office, actor

ENTRY = Entry(
    "data_quality",
    "账单表重复行的处理",
    "Bills come twice after a re-run",
    "按账期与账户去重，保留最后一次",
    ("去重", "Billing"),
    ({"kind": "table", "id": "bill"}, {"kind": "tag", "id": "arpu"}),
)


def write(office: Office, entry: Entry = ENTRY) -> str:
    with office.work("planner-a", "knowledge.edit") as work:
        return knowledge.write_entry(work, actor("planner-a"), "city-a", entry).entry_id


def publish(office: Office, entry_id: str, by: str = "planner-p") -> None:
    with office.work("planner-a", "knowledge.edit") as work:
        row = knowledge.get_entry(work, entry_id)
        knowledge.submit_entry(work, actor("planner-a"), row)
    with office.work(by, "knowledge.edit") as work:
        row = knowledge.get_entry(work, entry_id)
        knowledge.review_entry(work, actor(by), row, accept=True)


def found(office: Office, account: str = "planner-b", **wanted) -> list[str]:
    with office.work(account, "knowledge.read") as work:
        rows = work.session.scalars(knowledge.find_entries(work, **wanted))
        return [row.entry_id for row in rows]


class TestSharing:
    def test_a_draft_stays_home_and_a_reviewed_entry_is_seen_by_all(self, office: Office) -> None:
        entry_id = write(office)
        assert found(office) == []
        publish(office, entry_id)
        assert found(office) == [entry_id]
        for wanted in (
            {"text": "去重 bills"},
            {"category": "data_quality"},
            {"label": "billing"},
            {"link": ("table", "bill")},
            {"link": ("tag", "arpu")},
            {"state": "published"},
        ):
            assert found(office, **wanted) == [entry_id], wanted
        for wanted in ({"text": "nothing"}, {"label": "bill"}, {"link": ("table", "bil")}):
            assert found(office, **wanted) == []

    def test_who_wrote_it_does_not_review_it(self, office: Office) -> None:
        entry_id = write(office)
        with pytest.raises(RefusedError, match="review"):
            publish(office, entry_id, "planner-a")

    def test_sent_back_needs_a_comment_and_a_retired_entry_is_gone(self, office: Office) -> None:
        entry_id = write(office)
        with office.work("planner-a", "knowledge.edit") as work:
            row = knowledge.get_entry(work, entry_id)
            knowledge.submit_entry(work, actor("planner-a"), row)
        with (
            pytest.raises(RefusedError, match="comment"),
            office.work("planner-p", "knowledge.edit") as work,
        ):
            knowledge.review_entry(
                work, actor("planner-p"), knowledge.get_entry(work, entry_id), accept=False
            )
        with office.work("planner-p", "knowledge.edit") as work:
            row = knowledge.get_entry(work, entry_id)
            knowledge.review_entry(work, actor("planner-p"), row, accept=True)
        with office.work("planner-a", "knowledge.edit") as work:
            row = knowledge.get_entry(work, entry_id)
            knowledge.retire_entry(work, actor("planner-a"), row, why="new pipeline")
        with pytest.raises(NotFoundError), office.work("planner-b", "knowledge.read") as work:
            knowledge.get_entry(work, entry_id)
        with pytest.raises(ConflictError), office.work("planner-a", "knowledge.edit") as work:
            knowledge.submit_entry(work, actor("planner-a"), knowledge.get_entry(work, entry_id))


class TestVersions:
    def test_a_new_revision_is_reviewed_again_and_compared(self, office: Office) -> None:
        entry_id = write(office)
        publish(office, entry_id)
        changed = Entry("data_quality", ENTRY.title, "", "改用主键", ("去重",))
        with office.work("planner-a", "knowledge.edit") as work:
            row = knowledge.get_entry(work, entry_id)
            knowledge.revise_entry(work, actor("planner-a"), row, changed, note="better")
            assert row.state == "draft"
        assert found(office) == []
        with office.work("planner-a", "knowledge.read") as work:
            row = knowledge.get_entry(work, entry_id)
            paths = {change.path for change in knowledge.compare_entry(work, row, 1, 2)}
            assert {"solution", "problem", "labels"} <= paths
            with pytest.raises(NotFoundError):
                knowledge.compare_entry(work, row, 1, 7)

    @pytest.mark.parametrize(
        "entry",
        [
            Entry("gossip", "t", "p", "s"),
            Entry("script", " ", "p", "s"),
            Entry("script", "t", "p", ""),
            Entry("script", "t", "p", "s", ("a,b",)),
            Entry("script", "t", "p", "s", ("x",) * 21),
            Entry("script", "t", "p", "s", (), ({"kind": "planet", "id": "x"},)),
            Entry("script", "t", "p", "s", (), ({"kind": "tag", "id": "a,b"},)),
        ],
    )
    def test_an_entry_without_sense_is_refused(self, office: Office, entry: Entry) -> None:
        with pytest.raises(RefusedError, match="entry is wrong"):
            write(office, entry)


class TestVotes:
    def test_one_vote_each_and_the_last_counts(self, office: Office) -> None:
        entry_id = write(office)
        publish(office, entry_id)
        for account, helpful in (("planner-b", False), ("planner-b", True), ("planner-p", False)):
            with office.work(account, "knowledge.read") as work:
                vote(work, actor(account), entry_id, helpful=helpful)
        with office.work("planner-a", "knowledge.read") as work:
            marks = marks_of(work, "entry", [entry_id])[entry_id]
        assert (marks.helpful, marks.unhelpful) == (1, 1)
