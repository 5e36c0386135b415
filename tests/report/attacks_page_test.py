"""What the page shows of attacks, and of brittleness image by image."""

import dataclasses

import numpy as np
import pytest

from brittle_jax.evaluate import brittleness_parts, vulnerability
from tests.evaluate.measurement_card_test import CARD
from tests.report.made_up_runs import read_page, write_run

NAME = "unimodal/airplane"


@pytest.fixture
def attacked(tmp_path):
    """A run whose one configuration was attacked in L2; returns its folder, its results, and the entry."""
    rng = np.random.default_rng(0)
    content = write_run(tmp_path, names=(NAME,))
    (entry,) = content["configurations"]
    labels, resampling = np.repeat([0, 1], 20), {"bootstrap_samples": 20, "seed": 0}
    scores = 1 + rng.random((40, 1)) + labels[:, None]
    scores = scores + np.where(labels == 0, 1, -1)[:, None] * np.array([0, 0.4, 1.6])
    norm = {
        "epsilon": [0.0, 0.1, 1.0],
        **vulnerability.under_attack(labels, scores, 1.9, **resampling),
        "distance_normal": vulnerability.median_distance(rng.random(20), **resampling),
        "distance_anomalous": vulnerability.median_distance(np.full(20, np.inf), **resampling),
        **vulnerability.growth(scores[:20], np.full(20, 4.0), [0.1, 1.0], **resampling),
    }
    entry["attack"] = {
        "detector": "kd",
        "threshold": 1.9,
        "threshold_from": vulnerability.NORMAL_TEST,
        "num_normal": 20,
        "num_anomalous": 20,
        "steps": 7,
        "norms": {"l2": norm},
    }
    norms, errors = rng.random(50), rng.random((50, 4))
    entry |= brittleness_parts.intervals(norms, errors, np.arange(50), num_samples=50, seed=0)
    entry |= {"effective_dimensions": 3.25, "measurement_card": dataclasses.asdict(CARD)}
    path = tmp_path / "brittleness" / f"{NAME}.npz"
    path.parent.mkdir(parents=True)
    path.parent.joinpath("unimodal").mkdir()
    variance = np.array([4.0, 3.0, 2.0, 1.0])
    np.savez(path, gradient_norm=norms, error_variance=variance, gradient_norm_by_dimension=variance[::-1])
    return tmp_path, content, entry


def test_attacks_are_shown_with_figures_and_medians(attacked):
    folder, content, entry = attacked
    text = read_page(folder, content).root.text
    norm = entry["attack"]["norms"]["l2"]
    assert "Under attack" in text and "20 normal test samples" in text and "7 steps of projected gradient" in text
    assert "95% quantile of normal test scores" in text
    assert f"{norm['distance_normal']['median']:.3g}" in text and "beyond 1 for anomalous ones" in text
    raw = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert f"{NAME}: AUROC under L2 attacks: {100 * norm['auroc'][0]:.3g}% at 0" in raw
    assert f"{NAME}: share flagged under L2 attacks: normal" in raw
    assert f"{NAME}: growth of the score of normal images under L2 attacks" in raw


def test_brittleness_is_shown_with_its_interval_its_histogram_and_its_card(attacked):
    folder, content, entry = attacked
    text = read_page(folder, content).root.text
    low, high = entry["brittleness_interval"]
    assert f"[{low:.5f}, {high:.5f}]" in text
    raw = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "histogram of the brittleness of 50 images" in raw
    assert "variance of the student&#39;s error, up to 40%, and in the gradient norm, 10% to 40%" in raw
    assert "spread over 3.25 of 128 output dimensions" in text
    for line in ("gradient path", "student", "error ratio", "0.8", CARD.pictures):
        assert line in text


def test_runs_without_these_values_have_no_such_sections(tmp_path):
    text = read_page(tmp_path, write_run(tmp_path)).root.text
    assert "Under attack" not in text and "image by image" not in text and "How brittleness was measured" not in text


def test_damaged_norms_are_named_and_left_out(attacked):
    folder, content, _ = attacked
    (folder / "brittleness" / f"{NAME}.npz").write_bytes(b"PK\x03\x04 no archive")
    text = read_page(folder, content).root.text
    assert f"brittleness/{NAME}.npz" in text and "image by image" not in text
