"""Customers of other networks: none unless asked for, and known only from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from bihuan.data import Lake, load_contracts
from bihuan.kernel import SilentProgress, SystemClock, UserError
from bihuan.twin import TwinSettings, generate_operator


def build(folder: Path, share: float) -> Lake:
    lake = Lake(folder)
    generate_operator(
        TwinSettings(customers=2_700, months=2, seed=3, off_net_share=share),
        lake, load_contracts(), clock=SystemClock(), progress=SilentProgress(),
    )  # fmt: skip
    return lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return build(tmp_path_factory.mktemp("off_net"), 40 / 67)


class TestOffNet:
    def test_the_share_is_of_all_whom_the_operator_knows(self, lake: Lake) -> None:
        networks = lake.view().get("customer").read()["network"]
        counts = {k["values"]: k["counts"] for k in pc.value_counts(networks).to_pylist()}
        assert counts == {"on_net": 2_700, "off_net": 4_000}

    def test_by_default_there_are_none_and_ours_are_the_same(
        self, lake: Lake, tmp_path: Path
    ) -> None:
        alone = build(tmp_path, 0.0).view()
        assert "off_net_profile" not in alone.tables
        ours = lake.view().get("customer").read()
        assert ours.filter(pc.equal(ours["network"], "on_net")) == alone.get("customer").read()
        for table in ("usage", "bill", "subscription", "ticket", "contact"):
            assert lake.view().get(table).read() == alone.get(table).read(), table

    def test_they_have_neither_account_nor_bill(self, lake: Lake) -> None:
        view = lake.view()
        for table in ("account", "subscription", "usage", "bill"):
            owners = view.get(table).read()["customer_id"]
            assert not pc.any(pc.starts_with(owners, "x")).as_py(), table
        profile = view.get("off_net_profile").read()
        assert profile.num_rows == len(pc.unique(profile["number"])) == 4_000

    def test_who_they_are_does_not_change_from_month_to_month(self, lake: Lake) -> None:
        first, last = (
            lake.view().get("off_net_profile", day).read()
            for day in lake.view().dates("off_net_profile")
        )
        for column in ("number", "competitor", "probable_fee", "probable_plan", "source"):
            assert first[column] == last[column], column
        ends = [np.array(t["contract_ends_on"].to_pylist(), dtype="datetime64[D]")
                for t in (first, last)]  # fmt: skip
        known = ~np.isnat(ends[0])
        assert (ends[0][known] == ends[1][known]).mean() > 0.9  # the others were renewed

    def test_calls_agree_with_minutes_and_people(self, lake: Lake) -> None:
        rows = lake.view().get("off_net_call").read()
        none = rows.filter(pc.equal(rows["calls_with_ours"], 0))
        assert pc.sum(none["minutes_with_ours"]).as_py() == 0
        assert pc.all(pc.less_equal(rows["our_contact_count"], rows["calls_with_ours"])).as_py()

    @pytest.mark.parametrize("share", [-0.1, 1.0])
    def test_a_share_that_cannot_be_is_refused(self, tmp_path: Path, share: float) -> None:
        with pytest.raises(UserError, match="share of off-net"):
            build(tmp_path, share)


class TestStanding:
    def test_state_tables_are_there_every_month(self, lake: Lake) -> None:
        view = lake.view()
        for table in ("customer", "account", "customer_list", "opt_out", "staff", "product"):
            assert len(view.dates(table)) == 2, table

    def test_lists_only_grow_and_nobody_is_listed_before_the_day(self, lake: Lake) -> None:
        view = lake.view()
        for table in ("customer_list", "opt_out"):
            first, last = (view.get(table, day).read() for day in view.dates(table))
            assert set(first["customer_id"].to_pylist()) <= set(last["customer_id"].to_pylist())
            for day, rows in zip(view.dates(table), (first, last), strict=True):
                assert pc.max(rows["since"]).as_py() <= day

    def test_the_digital_are_younger(self, lake: Lake) -> None:
        view = lake.view()
        customers = view.get("customer").read().to_pylist()
        born = {row["customer_id"]: row["birth_year"] for row in customers}
        accounts = view.get("account").read().to_pylist()
        paperless = [born[a["customer_id"]] for a in accounts if a["is_paperless"]]
        paper = [born[a["customer_id"]] for a in accounts if not a["is_paperless"]]
        assert np.mean(paperless) > np.mean(paper) + 4
