"""Amounts are exact to the cent; half a cent goes away from zero."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pyarrow as pa
import pytest

from bihuan.kernel import SilentProgress
from bihuan.tag import TagDictionary, derive, query, read_tags

from .conftest import AS_OF

CENT = Decimal("0.01")
# two bills each, whose mean lies on half a cent: in a float on either side of it
PAIRS = [(Decimal(3 * k) / 100, Decimal(3 * k + 2 * (k % 7) + 1) / 100) for k in range(2500)]
PAIRS += [(-low, -high) for low, high in PAIRS]


@pytest.fixture
def derived(define, lake, clock, engine, contracts):
    """Derive one money tag of customers whose bills are given."""

    def run(expression: str, bills: list[list[Decimal | None]]) -> list[Decimal | None]:
        rows = [
            {"customer_id": f"C{i:05d}", "account_id": f"A{j}", "subscription_id": f"S{j}",
             "amount": amount}
            for i, amounts in enumerate(bills)
            for j, amount in enumerate(amounts)
        ]  # fmt: skip
        people = [{"customer_id": f"C{i:05d}"} for i in range(len(bills))]
        with lake.publication(clock) as publication:
            for name, content in (("customer", people), ("bill", rows)):
                table = pa.Table.from_pylist(content, schema=contracts[name].schema)
                publication.add(name, AS_OF, table, lineage={})
        dictionary = TagDictionary(
            [define("amount_tag", expression=expression, type="money")], contracts
        )
        derive(dictionary, lake, AS_OF, engine=engine, clock=clock, progress=SilentProgress())
        tags = read_tags(lake.view(), dictionary, "customer", AS_OF)
        return tags.read(engine, ["amount_tag"])["amount_tag"].to_pylist()

    return run


def exact(values: list[Decimal]) -> Decimal:
    return (sum(values) / len(values)).quantize(CENT, ROUND_HALF_UP)


class TestMean:
    @pytest.mark.parametrize(
        "expression", ["avg(amount)", "avg(amount) filter (where amount is not null)"]
    )
    def test_half_cents_come_out_exactly(self, derived, expression):
        found = derived(expression, [list(pair) for pair in PAIRS])
        assert found == [exact(list(pair)) for pair in PAIRS]

    def test_the_check_sees_a_mean_taken_in_floating_point(self, derived, monkeypatch):
        monkeypatch.setattr(query, "_exact_mean", lambda mean: mean)
        found = derived("avg(amount)", [list(pair) for pair in PAIRS])
        assert found != [exact(list(pair)) for pair in PAIRS]

    @pytest.mark.parametrize(
        ("amounts", "mean"),
        [
            (["9999999999999999.99", "9999999999999999.97"], "9999999999999999.98"),
            (["-9999999999999999.99", "-9999999999999999.99"], "-9999999999999999.99"),
            (["0.01", "0.00", "0.00"], "0.00"),
            (["0.01", "0.01", "0.00"], "0.01"),
            (["5.55"], "5.55"),
        ],
    )
    def test_the_largest_and_the_smallest(self, derived, amounts, mean):
        assert derived("avg(amount)", [[Decimal(a) for a in amounts]]) == [Decimal(mean)]

    def test_nothing_known_has_no_mean(self, derived):
        assert derived("avg(amount)", [[None], [Decimal(1), None], []]) == [None, Decimal(1), None]


class TestShare:
    def test_a_share_on_half_a_cent_is_not_decided_by_the_float(self, derived):
        amounts = [Decimal(2 * k + 1) / 100 for k in range(5000)]
        found = derived("sum(amount) / 2", [[a] for a in amounts])
        assert found == [(a / 2).quantize(CENT, ROUND_HALF_UP) for a in amounts]
