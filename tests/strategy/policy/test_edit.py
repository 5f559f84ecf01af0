"""A policy file is edited in place: only the statement changes, comments stay."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bihuan.kernel.document import Document, DocumentError
from bihuan.strategy import PolicyChange, PolicyStatement
from bihuan.strategy.policy import edit_text, parse_statement
from bihuan.strategy.policy.statement import read_statement

from .test_book import ABOUT, LIMITS, UNIT

FILE = """# Policies of the city, agreed in June.
note: {zh: 示例, en: sample}
policies:
  # first the frame
  - policy_id: a
    unit: city-1
    kind: addon
    status: draft   # waits for the board
    price: {high: 15}
    caps: {sms: {days: 7, most: 1}}

  # then one offer
  - {policy_id: b, unit: city-1, offer: pack_10, status: approved, max_discount: 0.1}
# end
"""


def read(text: str) -> dict[str, PolicyStatement]:
    parts = Document(yaml.safe_load(text), "").parts("policies")
    return {s.policy_id: s for s in map(read_statement, parts)}


def same(one: PolicyStatement, other: PolicyStatement) -> bool:
    return one.to_document() == other.to_document()


class TestEditText:
    def test_an_approval_changes_one_word(self) -> None:
        text = edit_text(FILE, PolicyChange.approve(read(FILE)["a"]))
        assert text == FILE.replace("status: draft ", "status: approved ")

    def test_a_statement_is_replaced_where_it_stands(self) -> None:
        new = parse_statement("{policy_id: a, unit: city-1, kind: addon, status: draft, budget: 9}")
        text = edit_text(FILE, PolicyChange.put(new))
        assert same(read(text)["a"], new)
        assert list(read(text)) == ["a", "b"]
        for comment in ("# Policies of", "# first the frame", "# then one offer", "# end"):
            assert comment in text

    def test_a_new_one_is_put_at_the_end_of_the_list(self) -> None:
        new = parse_statement("{policy_id: c, unit: city-2, status: draft, budget: 9}")
        text = edit_text(FILE, PolicyChange.put(new))
        assert list(read(text)) == ["a", "b", "c"]
        assert text.endswith("# end\n")

    @pytest.mark.parametrize("policy_id", ["a", "b"])
    def test_one_is_taken_out_and_the_rest_stays(self, policy_id: str) -> None:
        text = edit_text(FILE, PolicyChange.withdraw(policy_id))
        left = read(text)
        assert policy_id not in left
        assert all(same(left[k], read(FILE)[k]) for k in left)
        assert "# end" in text

    @pytest.mark.parametrize("text", ["", "policies: []\n", "policies:\n", "note: {zh: a, en: b}"])
    def test_the_first_one_of_a_file(self, text: str) -> None:
        new = parse_statement("{policy_id: c, unit: city-2, status: draft, budget: 9}")
        after = edit_text(text, PolicyChange.put(new))
        assert list(read(after)) == ["c"]
        again = edit_text(after, PolicyChange.withdraw("c"))
        assert read(again) == {}
        assert edit_text(again, PolicyChange.withdraw("c")) == again

    def test_a_list_in_brackets_is_refused(self) -> None:
        text = "policies: [{policy_id: a, unit: u, status: draft, budget: 1}]\n"
        new = parse_statement("{policy_id: c, unit: city-2, status: draft, budget: 9}")
        with pytest.raises(DocumentError, match="in brackets"):
            edit_text(text, PolicyChange.put(new))

    @given(UNIT, ABOUT, LIMITS, st.sampled_from(["a", "b", "new"]))
    def test_any_statement_comes_back_as_it_was_put_in(
        self, unit: str, about: tuple[str | None, str | None], limits: dict, policy_id: str
    ) -> None:
        low, high = limits.get("price.low", 0.0), limits.get("price.high", 99.0)
        if low > high:
            limits = {k: v for k, v in limits.items() if k != "price.low"} | {"price.high": high}
        new = PolicyStatement(
            policy_id, unit, *about, "approved", limits, "", {"zh": "说明：甲", "en": "it's: #1"}
        )
        before = read(FILE)
        after = read(edit_text(FILE, PolicyChange.put(new)))
        assert same(after[policy_id], new)
        for other in before:
            assert other == policy_id or same(after[other], before[other])
