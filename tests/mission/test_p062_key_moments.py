"""P062: 34 key moments of marketing and service, 27 of them seen by the system (关键时刻)."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

import bihuan as bh

from .strategies import OCTOBER, SEPTEMBER, at_work


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    found = at_work(tmp_path_factory)
    found.september = found.ws.strategy.moments(SEPTEMBER)
    found.october = found.ws.strategy.moments(OCTOBER)
    return found


def members(report, moment_id: str) -> set[str]:
    rows = report.detected.to_pylist()
    return {row["customer_id"] for row in rows if row["moment_id"] == moment_id}


def valued(centre) -> set[str]:
    rule = ("value_band in ('top', 'high', 'middle') or is_disconnected or (network = 'off_net'"
            " and acquisition_potential in ('high', 'middle'))")  # fmt: skip
    return set(centre.ws.members(rule, OCTOBER)["customer_id"].to_pylist())


@pytest.mark.mission("P062")
class TestCatalogue:
    """E-28 34项有价值客户关键时刻营销和服务; E-29 全面覆盖生命周期."""

    def test_e28_34_moments_of_marketing_and_service_for_valued_customers(self, centre) -> None:
        book = centre.ws.strategy.moment_book()
        assert len(book.moments) == 34
        assert {moment.kind for moment in book.moments} == {"marketing", "service"}
        for moment in book.moments:
            assert all(moment.title[x] and moment.action[x] for x in ("zh", "en"))
        everybody = set(centre.october.detected["customer_id"].to_pylist())
        assert everybody <= valued(centre)

    def test_e29_every_stage_of_the_life_cycle_has_some(self, centre) -> None:
        book = centre.ws.strategy.moment_book()
        for stage in ("acquisition", "growth", "maturity", "decline", "leave"):
            assert book.of_stage(stage), stage
            assert any(moment.supported for moment in book.of_stage(stage)), stage

    def test_a_slot_left_empty_is_refused(self, centre) -> None:
        path = centre.ws.layout.definitions("moments") / "standard.yaml"
        text = path.read_text(encoding="utf-8")
        short = path.with_name("short.yaml")
        short.write_text(text[: text.rindex("  - id:")], encoding="utf-8")
        with pytest.raises(bh.UserError, match="Fill exactly 34 slots"):
            centre.ws.strategy.moment_book("short")
        short.unlink()


@pytest.mark.mission("P062")
class TestSupported:
    """E-30 选择出27项系统可支撑且重要的关键点开展营销服务."""

    def test_e30_27_are_seen_on_the_operators_data_and_7_say_what_they_lack(self, centre) -> None:
        book = centre.ws.strategy.moment_book()
        assert len(book.supported) == 27
        assert centre.october.blind == {}
        assert set(centre.october.counts) == {moment.moment_id for moment in book.supported}
        assert all(count > 0 for count in centre.october.counts.values()), centre.october.counts
        assert len(book.unsupported) == 7
        assert all(moment.lacks["zh"] for moment in book.unsupported)

    def test_e30_a_moment_from_tags_is_exactly_its_rule(self, centre) -> None:
        ending = centre.ws.members("contract_stage = 'ending'", OCTOBER)["customer_id"].to_pylist()
        assert members(centre.october, "contract_ending") == set(ending) & valued(centre)

    def test_e30_a_moment_from_events_is_exactly_its_rows_with_the_last_day(
        self, centre, tools
    ) -> None:
        first = OCTOBER - timedelta(days=59)
        days: dict[str, date] = {}
        for month in (date(2026, 8, 31), SEPTEMBER, OCTOBER):
            for row in tools.read(centre.ws, "ticket", month):
                day = row["opened_at"].date()
                grave = row["kind"] == "complaint" and row["severity"] >= 4
                if grave and first <= day <= OCTOBER and row["customer_id"] in valued(centre):
                    days[row["customer_id"]] = max(days.get(row["customer_id"], day), day)
        rows = [
            r for r in centre.october.detected.to_pylist() if r["moment_id"] == "grave_complaint"
        ]
        assert {row["customer_id"]: row["since"] for row in rows} == days != {}

    def test_a_moment_that_goes_on_keeps_its_first_day(self, centre) -> None:
        both = members(centre.september, "device_due") & members(centre.october, "device_due")
        new = members(centre.october, "device_due") - members(centre.september, "device_due")
        since = {r["customer_id"]: r["since"] for r in centre.october.detected.to_pylist()
                 if r["moment_id"] == "device_due"}  # fmt: skip
        assert both
        assert {since[customer] for customer in both} == {SEPTEMBER}
        assert all(since[customer] == OCTOBER for customer in new)


@pytest.mark.mission("P062")
class TestMarketingOnMoments:
    """E-30: the moments bear on what is decided: more at the right one, nothing at the wrong one."""

    def test_e30_a_moment_raises_what_fits_it_and_a_complaint_stops_all(self, centre) -> None:
        angry = members(centre.october, "grave_complaint")
        browsing = members(centre.october, "browses_broadband") - angry
        refused = members(centre.october, "refused_lately")
        calm = sorted(browsing - refused - members(centre.october, "fault_reported"))
        ids = pa.array([*calm, *sorted(angry)])
        pairs = [("broadband_500", "outbound"), ("handset_5g", "hall")]
        factors = centre.ws.strategy.moment_factors(OCTOBER, ids, pairs)
        assert factors.shape == (len(ids), 2)
        assert (factors[: len(calm), 0] >= 1.8).all()
        np.testing.assert_array_equal(factors[len(calm) :], 0.0)

    def test_what_was_logged_is_used_again_until_the_tags_change(self, centre) -> None:
        before = centre.ws.view.get("key_moment__standard", OCTOBER).id
        rows = centre.ws.strategy.detected(OCTOBER)
        assert rows.num_rows == centre.october.detected.num_rows
        assert centre.ws.view.get("key_moment__standard", OCTOBER).id == before

    def test_two_catalogues_do_not_disturb_each_other(self, centre) -> None:
        path = centre.ws.layout.definitions("moments") / "standard.yaml"
        other = path.with_name("other.yaml")
        text = path.read_text(encoding="utf-8")
        assert "when: device_due" in text.replace('"', "")
        other.write_text(text.replace('when: "device_due"', 'when: "arpu > 0"'), encoding="utf-8")
        second = centre.ws.strategy.moments(OCTOBER, "other")
        other.unlink()
        mine = [row for row in second.detected.to_pylist() if row["moment_id"] == "device_due"]
        assert len(mine) > len(members(centre.october, "device_due"))
        assert {row["since"] for row in mine} == {OCTOBER}
        assert centre.ws.strategy.detected(OCTOBER).equals(centre.october.detected)

    def test_the_command_shows_all_34(self, centre, shell) -> None:
        told = shell("strategy", "moments", "--as-of", "2026-10-31", workspace=centre.folder)
        assert told.code == 0
        assert len(told.result) == 34
        assert sum(row["customers"] is not None for row in told.result) == 27
        assert sum(row["lacks"] is not None for row in told.result) == 7
