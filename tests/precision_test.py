import re

import jax
import numpy as np
import pytest

from brittle_jax.evaluate import brittleness, detectors
from brittle_jax.models import convolution
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables

FEATURES = 8
IMAGES = np.zeros((2, 16, 16, 3), np.float32)


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    """Traces convolutions as for a GPU."""
    monkeypatch.setattr(convolution, "default_platform", lambda: "gpu")


def network(name="small_resnet_tiny", side=16):
    module = ARCHITECTURES[name].with_output(FEATURES)
    return Network(module, jax.eval_shape(lambda: init_variables(module, 0, (side, side, 3))))


def assert_all_in_float32(function, *arguments):
    """Lowers a function for a GPU, where products have fewer bits by default, and checks their precision."""
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in lowered.splitlines() if re.search("stablehlo.(convolution|dot_general)", line)]
    assert products
    assert all(re.search(r"precision( =)? \[?HIGHEST", line) for line in products), products


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
        (brittleness.gradient_norms_and_errors, lambda student, teacher: (student, teacher, IMAGES)),
    ],
)
def test_measurements_have_float32_products(function, arguments):
    assert_all_in_float32(function, *arguments(network(), network()))


@pytest.mark.parametrize(("name", "side"), [("small_resnet_tiny", 16), ("densenet_tiny", 32)])
def test_networks_and_their_gradients_have_float32_products_without_a_detector(name, side):
    images = np.zeros((2, side, side, 3), np.float32)
    assert_all_in_float32(lambda teacher, images: teacher(images), network(name, side), images)

    def summed_scores(images, student, teacher):
        return detectors.distillation_score(student, teacher, images).sum()

    assert_all_in_float32(jax.grad(summed_scores), images, network(name, side), network(name, side))
