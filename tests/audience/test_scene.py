"""When a scene is due: wall clock, seasons, missed times; what its file may say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from bihuan.audience import Scene, load_scene, parse
from bihuan.audience.scene.definition import SceneError
from bihuan.kernel.document import DocumentError

TITLE = {"zh": "场景", "en": "Scene"}


def scene(cron="0 6 2 * *", **more) -> Scene:
    given = {"starts_on": date(2026, 1, 1), "owner": "t", "subject": "customer", **more}
    return Scene("s", TITLE, parse("everyone"), "everyone", cron, **given)


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


class TestNextTime:
    def test_fields_are_read_on_the_wall_clock_of_the_zone(self):
        found = scene("0 6 2 * *").next_time(utc(2026, 10, 5))
        assert found == utc(2026, 11, 1, 22)  # six in the morning of the 2nd in Shanghai

    def test_starts_and_ends(self):
        limited = scene("0 0 * * *", starts_on=date(2026, 3, 1), valid_until=date(2026, 3, 2))
        first = limited.next_time(utc(2020, 1, 1))
        assert first == utc(2026, 2, 28, 16)
        assert limited.next_time(limited.next_time(first)) is None

    def test_the_hour_that_spring_skips_is_due_once(self):
        berlin = scene("30 2 * * *", time_zone="Europe/Berlin", starts_on=date(2026, 3, 27))
        times = berlin.times(berlin.before_start, utc(2026, 3, 31))
        assert times == [
            utc(2026, 3, 27, 1, 30), utc(2026, 3, 28, 1, 30), utc(2026, 3, 29, 1, 30),
            utc(2026, 3, 30, 0, 30),
        ]  # fmt: skip

    def test_the_hour_that_autumn_repeats_is_due_once(self):
        berlin = scene("30 2 * * *", time_zone="Europe/Berlin", starts_on=date(2026, 10, 24))
        times = berlin.times(berlin.before_start, utc(2026, 10, 27))
        assert times == [
            utc(2026, 10, 24, 0, 30), utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)
        ]  # fmt: skip

    @pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Shanghai", "UTC"])
    def test_an_hourly_scene_never_goes_back_and_never_repeats(self, zone):
        hourly = scene("0 * * * *", time_zone=zone, starts_on=date(2026, 10, 20))
        times, after = [], hourly.before_start
        while len(times) < 24 * 20:
            after = hourly.next_time(after)
            times.append(after)
        gaps = {b - a for a, b in pairwise(times)}
        assert gaps <= {timedelta(hours=1), timedelta(hours=2)}
        assert all(b > a for a, b in pairwise(times))

    def test_a_day_that_never_comes(self):
        assert scene("0 0 30 2 *").next_time(utc(2026, 1, 1)) is None

    def test_adding_the_zone_after_the_fact_would_be_an_hour_off(self):
        """The defect: reading the fields in UTC and shifting the result by today's offset."""
        berlin = scene("0 6 * * *", time_zone="Europe/Berlin", starts_on=date(2026, 1, 1))
        winter, summer = (berlin.next_time(utc(2026, month, 10)) for month in (1, 7))
        assert (winter.hour, summer.hour) == (5, 4)


class TestLoadScene:
    TEXT = """
title: {zh: 合约到期, en: Contract ends}
audience: tenure_months >= 3
cron: 0 6 2 * *
owner: 市场部
starts_on: 2026-10-01
"""

    def load(self, tmp_path, text):
        path = tmp_path / "ending.yaml"
        path.write_text(text, encoding="utf-8")
        return load_scene(path)

    def test_reads_with_defaults(self, tmp_path):
        found = self.load(tmp_path, self.TEXT)
        assert (found.name, found.subject, found.time_zone) == (
            "ending",
            "customer",
            "Asia/Shanghai",
        )
        assert (found.catch_up, found.on_failure, found.maximum_age_days) == ("latest", "retry", 35)
        full = self.load(
            tmp_path,
            self.TEXT + "expected_size: [10, 500]\nvalid_until: 2026-12-31\ncatch_up: each",
        )
        assert full.expected_size == (10, 500)
        assert (full.is_plausible(10), full.is_plausible(501)) == (True, False)

    @pytest.mark.parametrize(
        ("change", "error", "word"),
        [
            (("0 6 2 * *", "0 6 2 *"), SceneError, "five fields"),
            (("0 6 2 * *", "0 26 2 * *"), SceneError, "five fields"),
            (("starts_on: 2026-10-01", "starts_on: soon"), DocumentError, "starts_on"),
            (("tenure_months >= 3", "tenure_months >="), SceneError, "ending.yaml: audience"),
            (("owner: 市场部", ""), DocumentError, "owner"),
            (("owner", "expected_size: [5, 1]\nowner"), SceneError, "wrong way round"),
            (("owner", "expected_size: many\nowner"), DocumentError, "expected_size"),
            (("owner", "time_zone: Mars/Base\nowner"), SceneError, "Mars/Base"),
            (("owner", "valid_until: 2026-09-01\nowner"), SceneError, "before starts_on"),
            (("owner", "catchup: each\nowner"), DocumentError, "catchup"),
        ],
    )
    def test_names_what_is_wrong(self, tmp_path, change, error, word):
        with pytest.raises(error, match=word):
            self.load(tmp_path, self.TEXT.replace(*change))
