"""Six categories are seen to be covered or not, and scopes cut the catalogue."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from bihuan.kernel import UserError
from bihuan.kernel.document import DocumentError
from bihuan.offer import CATEGORIES, Catalogue, business_coverage

from .make import offer

DAY = date(2026, 11, 2)
SCOPES = """
scopes:
  - scope_id: traffic
    title: {zh: 流量经营, en: Data traffic}
    phase: 1
    categories: [plan, data]
    traits: [internet_traffic]
"""


def every_category() -> list[str]:
    return list(CATEGORIES)


class TestBusinessCoverage:
    def test_is_complete_with_one_offer_in_each(self) -> None:
        offers = [offer(f"o_{name}", category=name) for name in every_category()]
        coverage = business_coverage(offers, DAY)
        assert coverage.is_complete
        assert coverage.offers["data"] == ("o_data",)
        assert coverage.channels["data"] == {"sms", "app"}

    @pytest.mark.parametrize("missing", every_category())
    def test_names_the_one_that_is_missing(self, missing: str) -> None:
        offers = [offer(f"o_{c}", category=c) for c in every_category() if c != missing]
        assert business_coverage(offers, DAY).empty == (missing,)

    @pytest.mark.parametrize("change", [{"status": "retired"}, {"valid_until": date(2026, 11, 1)}])
    def test_what_is_not_sold_covers_nothing(self, change: dict[str, object]) -> None:
        offers = [
            offer(f"o_{c}", category=c, **(change if c == "data" else {})) for c in every_category()
        ]
        assert business_coverage(offers, DAY).empty == ("data",)


class TestScope:
    def test_takes_offers_by_category_and_trait(self, tmp_path: Path) -> None:
        path = tmp_path / "scopes.yaml"
        path.write_text(SCOPES, encoding="utf-8")
        scopes = Catalogue.load(path).scopes
        catalogue = Catalogue(
            [
                offer("a", category="data", traits=frozenset({"internet_traffic"})),
                offer("b", category="data"),
                offer("c", category="terminal", traits=frozenset({"internet_traffic"})),
            ],
            scopes,
        )
        assert [o.offer_id for o in catalogue.of_scope("traffic")] == ["a"]
        with pytest.raises(UserError, match="there are: traffic"):
            catalogue.of_scope("trafic")

    def test_an_unknown_category_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "scopes.yaml"
        path.write_text(SCOPES.replace("plan, data", "plan, date"), encoding="utf-8")
        with pytest.raises(DocumentError, match=r"scopes\[0\].categories names 'date'"):
            Catalogue.load(path)
