import jax
import numpy as np
import pytest

from brittle_jax.evaluate import brittleness, detectors, moments
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables

FEATURES = 8
IMAGES = np.zeros((2, 16, 16, 3), np.float32)


def network():
    module = ARCHITECTURES["small_resnet_tiny"].with_output(FEATURES)
    return Network(module, init_variables(module, 0, (16, 16, 3)))


GAUSSIAN = detectors.Gaussian(np.zeros(FEATURES), np.ones(FEATURES), np.eye(FEATURES))
ROWS = np.zeros((4, FEATURES), np.float32)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (detectors.distillation_score, lambda student, teacher: (student, teacher, IMAGES)),
        (detectors.mse_score, lambda _, teacher: (teacher, GAUSSIAN.mean, IMAGES)),
        (
            detectors.diagonal_mahalanobis_score,
            lambda _, teacher: (teacher, GAUSSIAN.mean, GAUSSIAN.variance, IMAGES),
        ),
        (detectors.mahalanobis_score, lambda _, teacher: (teacher, GAUSSIAN, IMAGES)),
        (detectors.anomaly_scores, lambda student, teacher: (student, teacher, GAUSSIAN, IMAGES)),
        (detectors.scores_of_outputs, lambda *_: (ROWS, ROWS, GAUSSIAN)),
        (brittleness.input_gradient_norms, lambda student, teacher: (student, teacher, IMAGES)),
        (
            brittleness.update_terms,
            lambda student, teacher: (brittleness.empty_terms(FEATURES), student, teacher, IMAGES),
        ),
        (moments.update_moments, lambda *_: (moments.empty_moments(FEATURES, full=True), ROWS)),
    ],
)
def test_what_is_measured_takes_its_products_in_float32(function, arguments):
    lowered = jax.jit(function).trace(*arguments(network(), network())).lower(lowering_platforms=("cuda",)).as_text()
    products = [
        line for line in lowered.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
    ]
    assert products and all(
        "precision = [HIGHEST, HIGHEST]" in line or "#stablehlo<precision HIGHEST>" in line for line in products
    ), products
