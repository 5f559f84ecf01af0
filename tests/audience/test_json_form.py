"""The stored form is strict and names the path of what is wrong."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from bihuan.audience import Compare, In, Not, parse, to_json
from bihuan.audience.json_form import AudienceFormError, from_json


def document(tree):
    return {"version": 1, "tree": tree}


class TestToJson:
    def test_survives_json_text(self):
        node = parse("arpu >= 58.37 and city in ('石家庄') and d < 2026-01-31 and x = true")
        assert from_json(json.loads(json.dumps(to_json(node)))) == node

    def test_numbers_keep_every_digit(self):
        stored = to_json(Compare("x", "=", Decimal("12345678901234567890.123456789")))
        assert stored["tree"]["value"] == {"number": "12345678901234567890.123456789"}

    def test_equal_literals_are_stored_alike(self):
        assert to_json(Compare("x", "=", 0.5)) == to_json(Compare("x", "=", Decimal("0.50")))
        assert to_json(Compare("x", "=", 80.0)) == to_json(Compare("x", "=", 80))


class TestFromJson:
    def test_takes_plain_json_numbers(self):
        tree = {"op": "in", "tag": "x", "values": [80, 58.37]}
        assert from_json(document(tree)) == In("x", (80, Decimal("58.37")))

    @pytest.mark.parametrize(
        ("raw", "path"),
        [
            ([], "$"),
            ({"tree": {"op": "everyone"}}, "$.version"),
            ({"version": 2, "tree": {"op": "everyone"}}, "$.version"),
            ({"version": True, "tree": {"op": "everyone"}}, "$.version"),
            ({"version": 1, "tree": {"op": "everyone"}, "x": 1}, "$.x"),
            (document({"op": "everyone", "tag": "x"}), "$.tree.tag"),
            (document({"op": "flag"}), "$.tree.tag"),
            (document({"op": "flag", "tag": ""}), "$.tree.tag"),
            (document({"op": "flag", "tag": 5}), "$.tree.tag"),
            (document({"op": "xor", "parts": []}), "$.tree"),
            (document({"op": ["and"]}), "$.tree"),
            (document(None), "$.tree"),
            (document({"op": "and", "parts": {}}), "$.tree.parts"),
            (document({"op": "and", "parts": [{"op": "everyone"}]}), "$.tree"),
            (
                document({"op": "and", "parts": [{"op": "everyone"}, {"op": "not", "part": 1}]}),
                "$.tree.parts[1].part",
            ),
            (document({"op": "=", "tag": "x", "value": None}), "$.tree.value"),
            (document({"op": "=", "tag": "x", "value": {"number": 5}}), "$.tree.value"),
            (document({"op": "=", "tag": "x", "value": {"number": "5", "x": 1}}), "$.tree.value"),
            (document({"op": "=", "tag": "x", "value": {"number": "five"}}), "$.tree.value.number"),
            (document({"op": "=", "tag": "x", "value": {"number": "NaN"}}), "$.tree.value"),
            (document({"op": "=", "tag": "x", "value": float("inf")}), "$.tree.value"),
            (document({"op": "=", "tag": "x", "value": {"date": "20260131"}}), "$.tree.value.date"),
            (document({"op": "<", "tag": "x", "value": True}), "$.tree"),
            (document({"op": "in", "tag": "x", "values": [1, "1"]}), "$.tree"),
            (document({"op": "between", "tag": "x", "low": 1}), "$.tree.high"),
            (document({"op": "member", "audience_id": None}), "$.tree.audience_id"),
        ],
    )
    def test_refuses_with_the_path(self, raw, path):
        with pytest.raises(AudienceFormError) as caught:
            from_json(raw)
        assert f"{path} " in f"{caught.value.message} " or f"{path}:" in caught.value.message
        assert caught.value.zh

    def test_refuses_a_deep_document_without_crashing(self):
        tree = {"op": "everyone"}
        for _ in range(500):
            tree = {"op": "not", "part": tree}
        with pytest.raises(AudienceFormError, match="64 levels"):
            from_json(document(tree))

    def test_reads_the_deepest_tree(self):
        node = parse("a")
        for _ in range(63):
            node = Not(node)
        assert from_json(to_json(node)) == node
