"""A contract family has all of its slots, none twice, none overlapping; scripts say VIP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import parse
from bihuan.kernel.document import DocumentError
from bihuan.offer import (
    Catalogue,
    ContractFamily,
    ContractFamilyError,
    Facts,
    Slot,
    exclusive_wording,
    load_contract_family,
)

from .make import offer

BANDS = ((80.0, 120.0), (120.0, 180.0), (180.0, float("inf")))
SCRIPT = {"zh": "每月返 20 元。", "en": "20 back a month."}


def whole() -> tuple[ContractFamily, Catalogue]:
    """Return three kinds in three bands and two terms: 18 slots, all filled."""
    slots, offers = [], []
    for kind in ("fee", "terminal", "gift"):
        for low, high in BANDS:
            for months in (12, 24):
                number = len(slots) + 1
                name = f"{kind}_{low:g}_{months}"
                band = f"arpu >= {low:g}" + (f" and arpu < {high:g}" if high < 1e9 else "")
                slots.append(Slot(number, kind, {}, low, high, months, name, None))
                offers.append(
                    offer(name, "contract", months=months, exclusive=True, eligibility=parse(band))
                )
    return (
        ContractFamily(
            "vip", {}, 18, parse("arpu >= 80"), "arpu", tuple(slots),
            {"zh": "尊敬的贵宾客户，", "en": "As our VIP, "},
            {"zh": "这是您的专属合约。", "en": "this is exclusively yours."},
        ),
        Catalogue(offers),
    )  # fmt: skip


def changed(family: ContractFamily, which: int, /, **change: Any) -> ContractFamily:
    slots = tuple(replace(s, **change) if s.number == which else s for s in family.slots)
    return replace(family, slots=slots)


class TestCheck:
    def test_eighteen_filled_slots_are_sound(self) -> None:
        family, catalogue = whole()
        report = family.require_sound(catalogue)
        assert (report.size, len(report.filled), report.empty) == (18, 18, ())

    def test_a_slot_marked_empty_is_sound_and_told(self) -> None:
        family, catalogue = whole()
        marked = changed(family, 7, offer_id=None, empty={"zh": "待定", "en": "to come"})
        report = marked.require_sound(catalogue)
        assert (report.empty, 7 in report.filled) == ((7,), False)

    @pytest.mark.parametrize(
        ("number", "change", "told"),
        [
            (3, {"number": 99}, "slot 3 is missing"),
            (3, {"number": 4}, "slot 4 stands twice"),
            (18, {"number": 19}, "slot 19 is beyond the 18"),
            (3, {"low": 119.0}, "slots 1 and 3 overlap (80–120 and 119–180)"),
            (3, {"offer_id": "fee_80_12"}, "slots 1 and 3 hold the same offer"),
            (3, {"offer_id": "gone"}, "slot 3: offer gone is not in the catalogue"),
            (3, {"offer_id": "fee_120_24"}, "fee_120_24 runs 24 months, not 12"),
        ],
    )
    def test_what_is_wrong_is_named(self, number: int, change: dict[str, Any], told: str) -> None:
        family, catalogue = whole()
        broken = changed(family, number, **change)
        assert not broken.check(catalogue).is_sound
        with pytest.raises(ContractFamilyError) as caught:
            broken.require_sound(catalogue)
        assert told in caught.value.text("en")
        assert "小类" in caught.value.text("zh")

    @pytest.mark.parametrize(
        ("change", "told"),
        [({"exclusive": False}, "not marked exclusive"), ({"status": "retired"}, "is retired")],
    )
    def test_an_offer_that_does_not_belong_is_named(
        self, change: dict[str, Any], told: str
    ) -> None:
        family, catalogue = whole()
        offers = [replace(o, **change) if o.offer_id == "gift_80_12" else o for o in catalogue]
        with pytest.raises(ContractFamilyError, match=told):
            family.require_sound(Catalogue(offers))

    @pytest.mark.parametrize(
        ("rule", "told"),
        [
            ("arpu >= 80 and arpu < 130", "reaches beyond the band and admits arpu = 120"),
            ("arpu >= 80 and arpu < 110", "does not admit arpu = 119.99"),
            ("arpu >= 70 and arpu < 120", "reaches beyond the band and admits arpu = 79.99"),
            ("is_heavy", "reaches beyond the band"),
            ("is_heavy and arpu >= 80 and arpu < 120 or arpu = 500", None),
        ],
    )
    def test_an_eligibility_that_does_not_keep_to_the_band_is_named(
        self, rule: str, told: str | None
    ) -> None:
        family, catalogue = whole()
        offers = [
            replace(o, eligibility=parse(rule)) if o.offer_id == "fee_80_12" else o
            for o in catalogue
        ]
        problems = [p["en"] for p in family.check(Catalogue(offers)).problems]
        assert (told is None) == (not problems)  # values far away are left to the counts
        assert told is None or any(told in problem for problem in problems)

    def test_a_check_without_overlaps_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Seeded defect: without it only the eligibility beside the band gives it away."""
        family, catalogue = whole()
        broken = changed(family, 3, low=119.0)
        assert any("overlap" in p["en"] for p in broken.check(catalogue).problems)
        monkeypatch.setattr(Slot, "overlaps", lambda _self, _other: False)
        problems = [p["en"] for p in broken.check(catalogue).problems]
        assert problems == ["slot 3: eligibility of fee_120_12 does not admit arpu = 119"]


class TestFit:
    def test_counts_who_finds_one_contract_two_or_none(self) -> None:
        family, catalogue = whole()
        arpu = np.array([50.0, 80.0, 119.99, 120.0, 500.0])
        offers = [
            replace(o, eligibility=parse("arpu >= 100")) if o.offer_id == "gift_120_12" else o
            for o in catalogue
        ]
        catalogue = Catalogue(offers)
        needs = family.needs(catalogue)
        flags = {}
        for node in needs.nodes:
            low, high = _band(node)
            flags[node] = (arpu >= low) & (arpu < high)
        fit = family.fit(catalogue, Facts(pa.array([str(i) for i in range(5)]), flags))
        assert fit.customers == 4
        assert fit.eligible[1] == 2  # the lowest band: 80 and 119.99
        assert fit.doubled == {line: int(line == ("gift", 12)) * 2 for line in fit.doubled}
        assert set(fit.unserved.values()) == {0}


class TestWording:
    def test_an_exclusive_offer_is_told_as_such(self) -> None:
        family, catalogue = whole()
        told = family.wording(SCRIPT, catalogue.get("fee_80_12"))
        assert told["zh"] == "尊敬的贵宾客户，这是您的专属合约。每月返 20 元。"
        assert told["en"] == "As our VIP, this is exclusively yours. 20 back a month."

    def test_is_not_said_twice(self) -> None:
        family, catalogue = whole()
        once = family.wording(SCRIPT, catalogue.get("fee_80_12"))
        assert family.wording(once, catalogue.get("fee_80_12")) == once

    def test_any_other_offer_leaves_the_script_as_it_is(self) -> None:
        assert exclusive_wording(SCRIPT, offer("common")) == SCRIPT


class TestLoad:
    @pytest.mark.parametrize(
        ("slot", "told"),
        [
            ("offer: a, empty: {zh: 空, en: empty}", "exactly one of them"),
            ("below: 0", "exactly one of them"),
            ("offer: a, from: 50, below: 50", "below is 50"),
        ],
    )
    def test_a_wrong_slot_is_named(self, tmp_path: Path, slot: str, told: str) -> None:
        path = tmp_path / "vip.yaml"
        path.write_text(
            "title: {zh: 一, en: one}\naudience: arpu >= 80\nband_tag: arpu\nslots:\n"
            f"  - {{slot: 1, kind: fee, title: {{zh: 一, en: one}}, months: 12, {slot}}}\n",
            encoding="utf-8",
        )
        with pytest.raises(DocumentError, match=told):
            load_contract_family(path)


def _band(node: Any) -> tuple[float, float]:
    parts = getattr(node, "parts", (node,))
    low = next(float(part.value) for part in parts if part.op == ">=")
    return low, next((float(part.value) for part in parts if part.op == "<"), float("inf"))
