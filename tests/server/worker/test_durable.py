"""The memory of finished steps, on both databases."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bihuan.kernel import Cancelled, DefectError
from bihuan.server.worker.durable import SCHEMA, Durable, PlainSerializer, memory_url


@pytest.fixture
def url(database_url: str, tmp_path: Path) -> str:
    return memory_url(database_url, tmp_path)


@pytest.fixture
def durable(url: str) -> Iterator[Durable]:
    with Durable.launched(url, "w", threads=1) as durable:
        yield durable


def steps(*names: str, ran: list[str], fail: str = ""):
    def call(step):
        def one(name: str):
            if name == fail:
                raise Cancelled("stopped")
            ran.append(name)
            return {"was": name}

        return [step(name, lambda name=name: one(name)) for name in names]

    return call


class TestSteps:
    def test_the_next_claim_does_only_what_is_left(self, durable):
        ran: list[str] = []
        with pytest.raises(Cancelled):
            durable.run("j", 1, steps("a", "b", "c", ran=ran, fail="c"))
        assert durable.run("j", 2, steps("a", "b", "c", ran=ran)) == [
            {"was": "a"}, {"was": "b"}, {"was": "c"},
        ]  # fmt: skip
        assert ran == ["a", "b", "c"]

    def test_it_is_known_over_many_claims(self, durable):
        ran: list[str] = []
        for epoch, fail in ((1, "b"), (2, "c"), (5, "d")):
            with pytest.raises(Cancelled):
                durable.run("j", epoch, steps("a", "b", "c", "d", ran=ran, fail=fail))
        durable.run("j", 9, steps("a", "b", "c", "d", ran=ran))
        assert ran == ["a", "b", "c", "d"]

    def test_a_step_that_gives_nothing_is_remembered_too(self, durable):
        ran: list[str] = []
        for epoch in (1, 2):
            durable.run("j", epoch, lambda step: step("a", lambda: ran.append("a")))
        assert ran == ["a"]

    def test_it_outlives_the_process(self, url):
        ran: list[str] = []
        with Durable.launched(url, "one", threads=1) as durable, pytest.raises(Cancelled):
            durable.run("j", 1, steps("a", "b", ran=ran, fail="b"))
        with Durable.launched(url, "two", threads=1) as durable:
            assert durable.list_jobs() == {"j": 1}
            durable.run("j", 2, steps("a", "b", ran=ran))
            durable.forget("j", 2)
            assert durable.list_jobs() == {}
        assert ran == ["a", "b"]

    def test_two_steps_of_one_name_are_a_defect(self, durable):
        with pytest.raises(DefectError, match="two steps"):
            durable.run("j", 1, steps("a", "a", ran=[]))

    def test_its_tables_stand_apart(self, durable, url, database_url):
        engine = sa.create_engine(sa.make_url(url))
        if database_url.startswith("postgresql"):
            found = sa.inspect(engine)
            assert SCHEMA in found.get_schema_names()
            assert not [t for t in found.get_table_names() if t.startswith("workflow")]
        else:
            assert url != database_url
        engine.dispose()


class TestPlain:
    def test_nothing_stored_can_run_code(self):
        text = PlainSerializer().serialize({"a": [1, "中文", None]})
        assert PlainSerializer().deserialize(text) == {"a": [1, "中文", None]}
        with pytest.raises(ValueError, match="data"):
            PlainSerializer().deserialize(pickle.dumps(print).hex())

    def test_an_error_is_kept_as_its_words(self):
        stored = PlainSerializer().deserialize(PlainSerializer().serialize(ValueError("x")))
        assert stored == {"error": "ValueError", "message": "x"}
