"""Tables speak the reader's language: headings, codes, units."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bihuan.cli as cli
from bihuan.cli.show import Screen
from bihuan.cli.words import heading, word

FOLDER = Path(cli.__file__).parent


def headings_used(source: str) -> set[str]:
    """Return the names of columns that a module's calls of ``table`` write out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "table" and node.args:
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Dict):
                    found |= {key.value for key in part.keys if isinstance(key, ast.Constant)
                              and key.value.strip()}  # fmt: skip
    return found


class TestHeading:
    @pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda f: f.stem)
    def test_every_heading_of_a_table_has_chinese_words(self, file):
        used = headings_used(file.read_text(encoding="utf-8"))
        bare = {name for name in used if heading(name, "zh").isascii()}
        assert not bare, f"without Chinese words: {sorted(bare)}"

    def test_the_check_sees_a_heading_that_has_none(self):
        used = headings_used('screen.table([{"offer": 1, "brand_new": 2} for r in rows])')
        assert {name for name in used if heading(name, "zh").isascii()} == {"brand_new"}

    def test_units_stand_behind_the_heading(self):
        assert heading("price", "zh", "CNY/month") == "price（元/月）"
        assert heading("net", "en", "USD") == "net (USD)"
        assert heading("coverage", "en", "%") == "coverage"


class TestWord:
    def test_codes_are_told_in_both_languages_and_unknown_ones_stay(self):
        assert (word("channel", "hall", "zh"), word("channel", "hall", "en")) == (
            "营业厅", "business hall",
        )  # fmt: skip
        assert word("verdict", "new", "zh") == "new"


class TestTable:
    def test_shares_amounts_and_ids_are_readable(self, capsys):
        screen = Screen(as_json=False, language="zh")
        screen.currency = "CNY"
        rows = [
            {"rehearsal": "ce4e3d7e6595fdd738a5", "coverage": 0.04576, "net": 1234.5},
            {"rehearsal": "27245c9690e2a88f23b4", "coverage": None, "net": 2},
        ]
        screen.table(rows, units={"coverage": "%", "net": "money"}, whole=("rehearsal",))
        said = capsys.readouterr().out
        for text in ("4.6%", "1,234.50", "净值（元）", "ce4e3d7e6595fdd738a5", "—"):
            assert text in said

    def test_a_machine_is_told_no_table(self, capsys):
        Screen(as_json=True, language="zh").table([{"offer": "a"}])
        assert capsys.readouterr().out == ""
