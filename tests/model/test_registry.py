"""Versions that never change, appear whole or not at all, and score to the last bit alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import bihuan.model
from bihuan.kernel import DefectError, FixedClock
from bihuan.model import ModelRegistry, ModelState
from bihuan.model.registry import ModelDamagedError, ModelNotFoundError


@pytest.fixture
def clock():
    return FixedClock(datetime(2026, 10, 31, tzinfo=UTC))


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(tmp_path / "models")


def variant(model, limits):
    return replace(model, card=replace(model.card, limits={"en": limits}))


class TestSaveAndLoad:
    def test_scores_reasons_and_card_come_back_to_the_last_bit(
        self, registry, churn_model, telco, clock
    ):
        entry = registry.save(churn_model, clock=clock)
        again = registry.load("churn", entry.version)
        assert np.array_equal(again.score(telco.features), churn_model.score(telco.features))
        some = telco.features.slice(0, 50)
        assert again.explain(some).equals(churn_model.explain(some))
        assert again.drift(some) == churn_model.drift(some)
        stamped = replace(
            churn_model.card, version=entry.version, created_at="2026-10-31T00:00:00+00:00"
        )
        found, saved = (
            json.dumps(card.to_dict(), sort_keys=True) for card in (again.card, stamped)
        )
        assert found == saved
        assert again.card.metrics == churn_model.card.metrics

    def test_another_process_scores_to_the_last_bit_alike(
        self, registry, churn_model, telco, clock, tmp_path
    ):
        import pyarrow.parquet as pq

        registry.save(churn_model, clock=clock)
        some = telco.features.slice(0, 500)
        pq.write_table(some, tmp_path / "some.parquet")
        code = (
            "import sys, pathlib, pyarrow.parquet as pq; from bihuan.model import ModelRegistry;"
            "root = pathlib.Path(sys.argv[1]); registry = ModelRegistry(root / 'models');"
            "model = registry.load('churn', registry.list('churn')[0].version);"
            "print(model.score(pq.read_table(root / 'some.parquet')).tobytes().hex())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == churn_model.score(some).tobytes().hex()

    def test_the_version_is_the_hash_of_the_content(self, registry, churn_model, clock):
        first = registry.save(churn_model, clock=clock)
        clock.advance(timedelta(days=1))
        second = registry.save(churn_model, clock=clock)
        assert first == second  # the moment of the first saving stays
        other = registry.save(variant(churn_model, "x"), clock=clock)
        assert other.version != first.version
        assert [entry.version for entry in registry.list("churn")] == [first.version, other.version]

    def test_nothing_is_pickled_and_a_person_can_read_it(self, registry, churn_model, clock):
        entry = registry.save(churn_model, clock=clock)
        folder = registry.folder / "churn" / entry.version
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["card.json", "manifest.json", "model.json", "trees.txt"]
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        assert card["title"]["zh"] == "离网预警"
        assert card["libraries"]["lightgbm"]
        assert (folder / "trees.txt").read_text().startswith("tree")

    @pytest.mark.parametrize("name", ["card.json", "model.json", "trees.txt"])
    def test_a_changed_file_is_refused(self, registry, churn_model, clock, name):
        entry = registry.save(churn_model, clock=clock)
        path = registry.folder / "churn" / entry.version / name
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1", b"2", 1))
        with pytest.raises(ModelDamagedError, match=name):
            registry.load("churn", entry.version)

    def test_a_lost_file_is_refused(self, registry, churn_model, clock):
        entry = registry.save(churn_model, clock=clock)
        (registry.folder / "churn" / entry.version / "trees.txt").unlink()
        with pytest.raises(ModelDamagedError):
            registry.load("churn", entry.version)

    def test_what_is_unknown_is_said(self, registry, churn_model, clock):
        with pytest.raises(ModelNotFoundError, match="no champion"):
            registry.load("churn")
        entry = registry.save(churn_model, clock=clock)
        with pytest.raises(ModelNotFoundError, match=entry.version):
            registry.load("churn", "0000")
        with pytest.raises(ModelNotFoundError, match="no name"):
            registry.load("../etc", "0000")

    def test_a_number_that_json_cannot_say_is_a_defect(self, registry, churn_model, clock):
        card = replace(churn_model.card, settings={"x": float("nan")})
        with pytest.raises(DefectError):
            registry.save(replace(churn_model, card=card), clock=clock)
        assert registry.list() == ()


class TestStates:
    def test_new_versions_are_challengers_and_one_becomes_champion(
        self, registry, churn_model, clock
    ):
        first = registry.save(churn_model, clock=clock)
        assert first.state is ModelState.CHALLENGER
        registry.promote("churn", first.version, clock=clock, by="li", reason="first")
        assert registry.get_champion("churn").version == first.version
        assert registry.load("churn").card.version == first.version

    def test_promotion_retires_the_champion_so_far(self, registry, churn_model, clock):
        first = registry.save(churn_model, clock=clock)
        second = registry.save(variant(churn_model, "x"), clock=clock)
        registry.promote("churn", first.version, clock=clock, by="li", reason="first")
        clock.advance(timedelta(days=30))
        registry.promote("churn", second.version, clock=clock, by="wang", reason="better AUC")
        states = {entry.version: entry.state for entry in registry.list("churn")}
        assert states == {
            first.version: ModelState.RETIRED,
            second.version: ModelState.CHAMPION,
        }
        history = [(x["state"], x["by"]) for x in registry.history("churn")]
        assert history == [("champion", "li"), ("retired", "wang"), ("champion", "wang")]
        registry.promote("churn", first.version, clock=clock, by="li", reason="back")
        assert registry.get_champion("churn").version == first.version

    def test_there_is_never_more_than_one_champion(self, registry, churn_model, clock):
        versions = [
            registry.save(variant(churn_model, str(i)), clock=clock).version for i in range(4)
        ]
        threads = [
            threading.Thread(
                target=registry.promote,
                args=("churn", version),
                kwargs={"clock": clock, "by": "x", "reason": ""},
            )
            for version in versions * 3
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        states = [entry.state for entry in registry.list("churn")]
        assert states.count(ModelState.CHAMPION) == 1
        assert len(registry.history("churn")) >= 12

    def test_retire(self, registry, churn_model, clock):
        entry = registry.save(churn_model, clock=clock)
        registry.promote("churn", entry.version, clock=clock, by="li", reason="")
        registry.retire("churn", entry.version, clock=clock, by="li", reason="drift")
        assert registry.find_champion("churn") is None


WRITER = """
import os, sys, pathlib
from dataclasses import replace
from datetime import UTC, datetime
from bihuan.kernel import FixedClock
from bihuan.model import ModelRegistry
registry = ModelRegistry(pathlib.Path(sys.argv[1]))
model = registry.load("churn", registry.list("churn")[0].version)
clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
for line in sys.stdin:  # one child per line: saves models without end, until it is killed
    pid = os.fork()
    if not pid:
        for i in range(int(line), int(line) + 100_000):
            card = replace(model.card, limits={"en": str(i)})
            registry.save(replace(model, card=card), clock=clock)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""


@pytest.fixture
def writer(registry, churn_model, clock):
    """A process that starts a writer per line on its standard input."""
    registry.save(churn_model, clock=clock)
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(registry.folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


def kill_writer(process, start, *, after_seconds):
    """Let a writer save models without end and kill it in the middle."""
    process.stdin.write(f"{start}\n")
    process.stdin.flush()
    pid = int(process.stdout.readline())
    time.sleep(after_seconds)
    os.kill(pid, signal.SIGKILL)
    assert process.stdout.readline() == "dead\n"


def unreadable(registry):
    bad = 0
    for folder in (registry.folder / "churn").iterdir():
        if folder.is_dir():
            try:
                registry.load("churn", folder.name)
            except ModelDamagedError:
                bad += 1
    return bad


class TestKilledWriter:
    def test_every_version_seen_is_whole(self, registry, writer):
        for k in range(12):
            kill_writer(writer, k * 1000, after_seconds=0.03 + 0.017 * k)
            assert unreadable(registry) == 0
        assert len(registry.list("churn")) > 12
        registry.sweep()
        assert not list((registry.folder / ".staging").glob("*"))

    def test_a_writer_that_does_not_rename_would_be_caught(self, registry, churn_model, clock):
        """Seeded defect: the folder is seen while it is being filled."""
        entry = registry.save(churn_model, clock=clock)
        half = registry.folder / "churn" / "feedbeef"
        half.mkdir()
        whole = registry.folder / "churn" / entry.version
        (half / "card.json").write_bytes((whole / "card.json").read_bytes())
        assert unreadable(registry) == 1
        (half / "card.json").write_text("{")
        with pytest.raises(ModelDamagedError, match="feedbeef"):
            registry.list("churn")

    def test_a_folder_left_in_staging_is_not_seen_and_swept(self, registry, churn_model, clock):
        registry.save(churn_model, clock=clock)
        left = registry.folder / ".staging" / "dead"
        left.mkdir(parents=True)
        (left / "card.json").write_text("{}")
        assert len(registry.list()) == 1
        assert registry.sweep() == 1
        assert not left.exists()

    def test_killed_between_the_rename_and_a_promotion_it_is_a_challenger(
        self, registry, churn_model, clock
    ):
        entry = registry.save(churn_model, clock=clock)
        assert not (registry.folder / "churn" / "states.json").exists()
        assert registry.list("churn") == (entry,)

    def test_two_processes_saving_the_same_model_agree(self, registry, churn_model, clock):
        entries = []
        threads = [
            threading.Thread(target=lambda: entries.append(registry.save(churn_model, clock=clock)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({entry.version for entry in entries}) == 1
        assert len(entries) == 6
        assert registry.load("churn", entries[0].version)


class TestSecurity:
    def test_no_file_of_the_room_can_unpickle(self):
        folder = Path(bihuan.model.__file__).parent
        for path in folder.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "import pickle" not in text, path.name
            assert "joblib" not in text, path.name
