"""Builders: a small province, an offer catalogue, policy files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bihuan.offer import Catalogue
from bihuan.strategy import OrgTree, PolicyBook
from bihuan.strategy.policy import OrgUnit

UNITS = (
    ("province", "province", None),
    ("city-1", "city", "province"),
    ("county-11", "county", "city-1"),
    ("grid-111", "grid", "county-11"),
    ("grid-112", "grid", "county-11"),
    ("county-12", "county", "city-1"),
    ("grid-121", "grid", "county-12"),
    ("city-2", "city", "province"),
    ("county-21", "county", "city-2"),
    ("grid-211", "grid", "county-21"),
)
OFFERS = """
offers:
  - {offer_id: pack_10, title: {zh: 十元包, en: Pack 10}, kind: addon, products: [p10], price: 10,
     months: 6, margin: 5, channels: [sms, app, outbound]}
  - {offer_id: pack_20, title: {zh: 二十元包, en: Pack 20}, kind: addon, products: [p20], price: 20,
     months: 6, margin: 9, cost: 30, channels: [sms, app]}
  - {offer_id: plan_99, title: {zh: 套餐 99, en: Plan 99}, kind: plan, products: [plan99],
     price: 99, months: 12, margin: 90, channels: [outbound, hall]}
  - {offer_id: line_100, title: {zh: 专线 100M, en: Line 100}, kind: leased_line, products: [l100],
     price: 2000, months: 24, margin: 9000, channels: [account_manager]}
"""
RIGHTS = """
decides:
  addon: [province, city]
  plan: [city]
  leased_line: {frame: [province], detail: [city, county]}
"""


@pytest.fixture(scope="session")
def tree() -> OrgTree:
    return OrgTree(
        OrgUnit(unit, tier, parent, {"zh": unit, "en": unit}) for unit, tier, parent in UNITS
    )


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("offers") / "offers.yaml"
    path.write_text(OFFERS, encoding="utf-8")
    return Catalogue.load(path)


@pytest.fixture
def book(tmp_path: Path, tree: OrgTree, catalogue: Catalogue) -> Callable[..., PolicyBook]:
    """Makes a book of policy files, given by name; each text is the list under ``policies:``."""

    def make(rights: str = RIGHTS, **files: str) -> PolicyBook:
        (tmp_path / "_rights.yaml").write_text(rights or "policies: []", encoding="utf-8")
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(f"policies:\n{text}", encoding="utf-8")
        return PolicyBook.load(tmp_path, tree, catalogue)

    return make
