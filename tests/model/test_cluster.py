"""Clusters: known groups are found again, missing values and giants do no harm."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score

from bihuan.model.cluster import ClusterError, ClusterModel, fit_clusters

TAGS = ["arpu", "dou", "mou"]


def groups(seed=3, size=400, giants=False):
    rng = np.random.default_rng(seed)
    centres = np.array([[30, 500, 40], [60, 9000, 60], [200, 3000, 600]], dtype=float)
    truth = rng.choice(3, size, p=[0.5, 0.3, 0.2])
    values = centres[truth] * rng.lognormal(0, 0.15, (size, 3))
    if giants:
        values[:2, 0] = 1e6
    values[rng.random((size, 3)) < 0.05] = np.nan
    columns = {tag: pa.array(values[:, i], from_pandas=True) for i, tag in enumerate(TAGS)}
    return pa.table({"customer_id": [str(i) for i in range(size)], **columns}), truth


class TestFitClusters:
    def test_finds_the_groups_and_their_number(self):
        rows, truth = groups()
        found = fit_clusters(rows, TAGS, seed=7)
        assert len(found.classes) == 3
        assert adjusted_rand_score(truth, found.model.classify(rows).to_pylist()) > 0.9
        assert found.agreement > 0.95
        # the defect: by the silhouette alone, a class that the filled-in medians made up
        assert max(found.silhouette, key=found.silhouette.get) == 4
        assert min(c.share for c in fit_clusters(rows, TAGS, seed=7, count=4).classes) < 0.02
        assert list(found.within.values()) == sorted(found.within.values(), reverse=True)

    def test_the_largest_comes_first_and_sizes_are_right(self):
        rows, _ = groups()
        found = fit_clusters(rows, TAGS, seed=7)
        told = found.model.classify(rows).to_pylist()
        sizes = [c.size for c in found.classes]
        assert sizes == sorted(sizes, reverse=True)
        assert [told.count(c.name) for c in found.classes] == sizes
        assert sum(c.share for c in found.classes) == pytest.approx(1)

    def test_features_of_a_class_by_hand(self):
        rows, _ = groups()
        found = fit_clusters(rows, TAGS, seed=7, titles={"mou": {"zh": "通话", "en": "Minutes"}})
        told = np.array(found.model.classify(rows).to_pylist())
        for one in found.classes:
            for feature in one.features:
                values = rows[feature.tag].to_numpy(zero_copy_only=False)
                assert feature.mean == pytest.approx(np.nanmean(values[told == one.name]))
                assert feature.base_mean == pytest.approx(np.nanmean(values))
        talkers = max(found.classes, key=lambda c: {f.tag: f.mean for f in c.features}["mou"])
        assert "通话高" in talkers.said["zh"]
        assert "high Minutes" in talkers.said["en"]

    def test_the_same_seed_gives_the_same(self):
        rows, _ = groups()
        one, two = (fit_clusters(rows, TAGS, seed=7) for _ in range(2))
        assert one.model.to_json() == two.model.to_json()

    def test_a_giant_is_no_class_of_its_own(self):
        rows, truth = groups(giants=True)
        found = fit_clusters(rows, TAGS, seed=7, count=3)
        assert min(c.size for c in found.classes) > 20
        assert adjusted_rand_score(truth, found.model.classify(rows).to_pylist()) > 0.85
        # the defect: without the cut two giants take a class
        raw = np.nan_to_num(rows["arpu"].to_numpy(zero_copy_only=False))
        from sklearn.cluster import KMeans

        plain = KMeans(3, n_init=5, random_state=1).fit_predict(
            (raw[:, None] - raw.mean()) / raw.std()
        )
        assert np.bincount(plain).min() <= 2

    def test_refuses_what_cannot_be_parted(self):
        rows, _ = groups()
        with pytest.raises(ClusterError, match="fewer than 100"):
            fit_clusters(rows.slice(0, 50), TAGS, seed=1)
        with pytest.raises(ClusterError, match="customer_id"):
            fit_clusters(rows, ["customer_id"], seed=1)
        with pytest.raises(ClusterError, match="2 to 20"):
            fit_clusters(rows, TAGS, seed=1, count=1)
        flat = pa.table({"a": [1.0] * 200})
        with pytest.raises(ClusterError, match="varies"):
            fit_clusters(flat, ["a"], seed=1)


class TestClusterModel:
    def test_kept_and_read_again_it_says_the_same_to_a_single_customer(self):
        rows, _ = groups()
        model = fit_clusters(rows, TAGS, seed=7).model
        again = ClusterModel.read(json.loads(json.dumps(model.to_json())))
        told = model.classify(rows).to_pylist()
        assert again.classify(rows).to_pylist() == told
        for i in range(0, 60, 7):
            assert again.classify(rows.slice(i, 1)).to_pylist() == [told[i]]

    def test_nothing_known_is_still_a_class(self):
        rows, _ = groups()
        model = fit_clusters(rows, TAGS, seed=7).model
        nothing = pa.table({tag: pa.array([None], pa.float64()) for tag in TAGS})
        assert model.classify(nothing)[0].as_py() in model.classes
