"""Normal and threat parcels must not differ in anything that is not the pistol's shape."""

import joblib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from brittle_jax.data.parcels.packing import pack
from brittle_jax.data.parcels.scanner import scan

PARCELS_PER_CLASS = 100


def appearance(is_threat, index):
    """What could give a class away without looking at shapes."""
    rng = np.random.default_rng([11, int(is_threat), index])
    views = scan(rng, pack(rng, is_threat=is_threat), side_pixels=113).values()
    pixels = np.concatenate([view.image.reshape(-1, 3) for view in views]).astype(int)
    red, _, blue = pixels.T
    return {
        "mean red": red.mean(),
        "mean green": pixels[:, 1].mean(),
        "mean blue": blue.mean(),
        "darkest pixel": pixels.sum(axis=1).min(),
        "metal area": (blue - red > 60).sum(),
        "object area": (pixels < 235).any(axis=1).sum(),
        "parcel area": len(pixels),
    }


@pytest.fixture(scope="module")
def appearances():
    parcels = [(is_threat, index) for is_threat in (False, True) for index in range(PARCELS_PER_CLASS)]
    return joblib.Parallel(n_jobs=-1)(joblib.delayed(appearance)(*parcel) for parcel in parcels)


@pytest.mark.parametrize(
    "name",
    ["mean red", "mean green", "mean blue", "darkest pixel", "metal area", "object area", "parcel area"],
)
def test_no_simple_statistic_tells_threats_from_normal_parcels(appearances, name):
    values = np.array([each[name] for each in appearances])
    labels = np.repeat([0, 1], PARCELS_PER_CLASS)
    auroc = roc_auc_score(labels, values)
    print(f"{name}: AUROC {auroc:.3f}")
    assert max(auroc, 1 - auroc) <= 0.75
