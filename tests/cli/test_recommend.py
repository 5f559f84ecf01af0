"""Commands of the next best offer, for people and for machines."""

from __future__ import annotations

import csv
import json
import sys

import pytest

import bihuan as bh
from bihuan.cli import main
from bihuan.twin import TwinSettings, generate_operator

AS_OF = "2026-10-31"
OFFER = """
offers:
  - {offer_id: keep_12, title: {zh: 话费合约, en: Bill credit}, kind: contract, products: [c12],
     price: 0, months: 12, margin: {per_unit: 0.8, of: arpu}, cost: 5,
     eligibility: "not has_contract", channels: [outbound, sms]}
"""
CAMPAIGN = """
campaign_id: keep
title: {zh: 存量保有, en: Keeping}
goal: {metric: ordered, target: 0.01, reason: {zh: 无, en: none}, needs: {zh: 无, en: none},
       starts_on: 2020-01-01, ends_on: 2099-12-31}
audience: "arpu >= 20"
control_share: 0.2
channels: {outbound: {unit_cost: 2.0, capacity: 30}, sms: {unit_cost: 0.05, capacity: 50}}
scripts: {call: {zh: 您好, en: Hello}}
mix:
  - offer: keep_12
    promotion: {zh: 返话费, en: credit}
    channels: {outbound: {script: call, acceptance: 0.3}, sms: {script: call, acceptance: 0.1}}
"""
TRIGGER = """
triggers:
  - {trigger: asks, title: {zh: 咨询, en: Asks}, event: query, cooldown_days: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("ws") / "ws"
    ws = bh.open_workspace(root)
    generate_operator(
        TwinSettings(customers=300, months=2, seed=3), ws.lake, ws.contracts,
        offer_ids=("keep_12",), clock=ws.clock, progress=ws.progress,
    )  # fmt: skip
    for kind, text in (("offers", OFFER), ("campaigns", CAMPAIGN), ("triggers", TRIGGER)):
        (root / kind / "keep.yaml").write_text(text, encoding="utf-8")
    ws.refresh_tags(AS_OF)
    bh.open_workspace(root).decide("keep", AS_OF)
    return root


@pytest.fixture
def run(folder, capsys, monkeypatch):
    def call(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["bihuan", *words, "--workspace", str(folder), "--json"])
        try:
            main()
            found = 0
        except SystemExit as stop:
            found = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert found == code, err
        return json.loads(out.strip().splitlines()[-1])

    return call


class TestRecommend:
    def test_list_customer_why_and_campaigns_tell_one_story(self, run, tmp_path):
        file = tmp_path / "next.csv"
        told = run("recommend", "list", "--as-of", AS_OF, "--out", str(file))
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert len(rows) == told["rows"] > 20
        row = rows[0]
        single = run("recommend", "customer", row["customer_id"], "--as-of", AS_OF)
        assert single["items"][0]["reason"]["zh"] == row["reason_zh"]
        path = run("recommend", "why", "keep", row["customer_id"], "--as-of", AS_OF)
        assert path["agrees"]
        assert path["fell_at"] == ""
        match = run("recommend", "campaigns", row["customer_id"], "--as-of", AS_OF)
        assert [m["campaign_id"] for m in match] == ["keep"]

    def test_override_plan_and_event(self, run, folder):
        ids = bh.open_workspace(folder).view.get("customer").read()["customer_id"].to_pylist()
        laid = run("recommend", "override", "keep", ids[0], "forbid", "--by", "M1", "--reason", "x")
        assert laid["action"] == "forbid"
        files = run("recommend", "plan", ids[0], "--as-of", AS_OF)["files"]
        assert [f[-6:] for f in files] == [".zh.md", ".en.md"]
        event = ["e1", "query", ids[1], "--at", "2026-11-02T10:00:00+08:00", "--as-of", AS_OF]
        first = run("recommend", "event", *event)
        again = run("recommend", "event", *event)
        assert first[0]["outcome"] in ("fired", "nothing_open")
        if first[0]["outcome"] == "fired":
            assert again[0]["outcome"] == "repeated"

    def test_mistakes_are_told(self, run):
        told = run("recommend", "event", "e", "query", "c", "--at", "noon", "--as-of", AS_OF,
                   code=2)  # fmt: skip
        assert "noon" in told["message"]
        told = run("recommend", "why", "keep", "nobody", "--as-of", AS_OF, code=2)
        assert "nobody" in told["message"]
        told = run("recommend", "why", "gone", "nobody", "--as-of", AS_OF, code=2)
        assert "gone" in told["message"]


class TestWordsForPeople:
    @pytest.fixture
    def say(self, folder, capsys, monkeypatch):
        def call(*words, language):
            monkeypatch.setenv("BIHUAN_LANG", language)
            monkeypatch.setattr(sys, "argv", ["bihuan", *words, "--workspace", str(folder)])
            main()
            return capsys.readouterr().out

        return call

    def test_amounts_have_a_currency_and_channels_a_name(self, say, run):
        first = run("recommend", "list", "--as-of", AS_OF)["first"][0]
        told = say("recommend", "list", "--as-of", AS_OF, language="zh")
        assert "净值（元）" in told
        assert {"sms": "短信", "outbound": "外呼"}[first["channel"]] in told
        assert "话费合约" in told
        assert "net (CNY)" in say("recommend", "list", "--as-of", AS_OF, language="en")

    def test_an_event_that_no_trigger_waits_for_is_told(self, say):
        event = ["e9", "visit", "c000000001", "--at", "2026-11-02T10:00:00+08:00"]
        told = say("recommend", "event", *event, "--as-of", AS_OF, language="en")
        assert "No trigger waits" in told
        assert "query" in told

    def test_nothing_to_recommend_says_where_to_look(self, say):
        told = say("recommend", "customer", "c000000001", "--channel", "hall", "--as-of", AS_OF,
                   language="en")  # fmt: skip
        assert "bihuan recommend campaigns c000000001" in told
