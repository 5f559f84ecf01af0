"""A campaign is read strictly, names what was approved, and says which preconditions fail."""

from pathlib import Path

import pytest

from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue
from bihuan.strategy import (
    Campaign,
    CampaignFacts,
    load_campaign,
    plan_text,
    unmet_requirements,
)

PACK = Path(__file__).parents[2] / "src/bihuan/pack/retention"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(PACK / "offers" / "contracts.yaml")


@pytest.fixture(scope="module")
def campaign(catalogue: Catalogue) -> Campaign:
    return load_campaign(PACK / "campaigns" / "retention-2026-11.yaml", catalogue)


def edited(folder: Path, old: str, new: str) -> Path:
    text = (PACK / "campaigns" / "retention-2026-11.yaml").read_text(encoding="utf-8")
    assert old in text
    path = folder / "campaign.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


class TestLoadCampaign:
    def test_every_offer_stands_with_its_channels(self, campaign: Campaign) -> None:
        assert len(campaign.mix) == 18
        assert len(campaign.candidates()) == 6 * 6 + 6 * 3 + 6 * 4

    def test_scripts_exist_in_both_languages(self, campaign: Campaign) -> None:
        for item in campaign.mix:
            for script in item.scripts.values():
                assert set(campaign.scripts[script]) == {"zh", "en"}

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("ends_on: 2026-11-30", "ends_on: 2026-10-01", "goal.ends_on is before starts_on"),
            ("control_share: 0.3", "control_share: 1.2", "control_share is 1.2"),
            ("script: fee_sms", "script: fee_smss", r"sms.script is 'fee_smss'"),
            ("metric: retained", "metric: happy", "goal.metric is 'happy'"),
            ("  sms: {capacity", "  smz: {capacity", "sms has no capacity and cost"),
            ("starts_on: 2026-11-26", "starts_on: 2026-12-26", "outside the campaign's period"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, tmp_path: Path, catalogue: Catalogue, old: str, new: str, told: str
    ) -> None:
        with pytest.raises(DocumentError, match=told):
            load_campaign(edited(tmp_path, old, new), catalogue)


class TestContentId:
    def test_is_stable(self, campaign: Campaign, catalogue: Catalogue) -> None:
        again = load_campaign(PACK / "campaigns" / "retention-2026-11.yaml", catalogue)
        assert again.content_id == campaign.content_id

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("churn_score >= 0.1", "churn_score >= 0.3"),
            ("acceptance: 0.3}", "acceptance: 0.31}"),
            ("capacity: 260", "capacity: 261"),
            ("budget: 60000", "budget: 60001"),
            ("Tap to see.", "Tap to look."),
        ],
    )
    def test_any_edit_changes_it(
        self, tmp_path: Path, campaign: Campaign, catalogue: Catalogue, old: str, new: str
    ) -> None:
        other = load_campaign(edited(tmp_path, old, new), catalogue)
        assert other.content_id != campaign.content_id


class TestPlanText:
    @pytest.mark.parametrize("language", ["zh", "en"])
    def test_holds_goal_audience_mix_plan_and_preconditions(
        self, campaign: Campaign, catalogue: Catalogue, language: str
    ) -> None:
        text = plan_text(campaign, catalogue, language)
        assert campaign.goal.reason[language] in text
        assert "churn_score >= 0.1" in text
        for step in campaign.action_plan:
            assert step.what[language] in text
        for need in campaign.requirements:
            assert need.text[language] in text


class TestUnmetRequirements:
    def test_all_hold(self, campaign: Campaign) -> None:
        facts = CampaignFacts(audience_size=500, control_size=200, data_age_days=45)
        assert unmet_requirements(campaign, facts) == ()

    def test_each_can_fail(self, campaign: Campaign) -> None:
        facts = CampaignFacts(audience_size=499, control_size=199, data_age_days=46)
        unmet = unmet_requirements(campaign, facts)
        assert [need.check for need in unmet] == [
            "audience_at_least",
            "control_at_least",
            "data_age_at_most",
        ]
