"""Who uses which tag: rules and lists of names count, words in titles do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bihuan.data import load_contracts
from bihuan.step.uses import tag_uses
from bihuan.tag import TagDictionary, parse_definition

TEXT = {"zh": "甲", "en": "A"}
FILES = {
    "campaigns/spring.yaml": 'title: {zh: peak, en: peak}\naudience: "arpu > 1 and not 话费"\n',
    "offers/all.yaml": "offers:\n- {offer_id: top, title: {zh: a, en: arpu},"
    " eligibility: \"city = 'top'\"}\n",
    "models/churn.yaml": "label: gone\nfeatures: [arpu, city]\nmodel: {name: peak}\n",
    "filters/form.yaml": 'audience: "peak >= {least} and city in {cities}"\n',
    "rules/broken.yaml": "rules: [",
}


@pytest.fixture(scope="module")
def dictionary() -> TagDictionary:
    titles = {"arpu": "均值", "peak": "峰值", "top": "话费", "city": "城市", "gone": "离网"}
    return TagDictionary(
        [
            parse_definition(
                {
                    "name": name,
                    "title": {"zh": title, "en": name.title()},
                    "layer": "base",
                    "subject": "customer",
                    "means": "statistics",
                    "type": "number",
                    "source": "bill",
                    "expression": "sum(amount)",
                    "category": "a/b/c",
                    "owner": "x",
                    "meaning": TEXT,
                    "definition": TEXT,
                    "state": "live",
                }
            )
            for name, title in titles.items()
        ],
        load_contracts(),
    )


def test_rules_lists_templates_and_titles_are_read(tmp_path: Path, dictionary: TagDictionary):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert tag_uses(tmp_path, dictionary) == {
        "arpu": ("campaigns/spring.yaml", "models/churn.yaml"),
        "city": ("filters/form.yaml", "models/churn.yaml", "offers/all.yaml"),
        "gone": ("models/churn.yaml",),
        "peak": ("filters/form.yaml",),  # not the campaign whose title has the word
        "top": ("campaigns/spring.yaml",),  # by its title
    }


def test_a_workspace_without_files_uses_nothing(tmp_path: Path, dictionary: TagDictionary):
    assert tag_uses(tmp_path, dictionary) == {}
