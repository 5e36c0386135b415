import dataclasses
import logging
import multiprocessing

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import growth
from brittle_jax import inference, rows
from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.brittleness import empty_terms, update_terms
from brittle_jax.evaluate.detectors import anomaly_scores, fit_gaussian
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables
from tests.conftest import make_image_set

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
# Not in the order of the images, and some are left out.
INDICES = np.array([5, 3, 20, 1, 17, 11, 8])


def network(seed):
    module = ARCHITECTURES["small_resnet_tiny"].with_output(8)
    return Network(module, init_variables(module, seed, (16, 16, 3)))


@pytest.fixture
def teacher():
    return network(1)


@pytest.fixture
def student():
    return network(2)


def counted(pictures):
    """Returns pictures as an image set, and the list of the images that have been read."""
    read = []

    def read_image(index):
        read.append(index)
        return pictures[index]

    return dataclasses.replace(make_image_set(pictures), read_image=read_image), read


def test_representations_are_the_teachers_outputs(teacher, one_device):
    representations = inference.Representations(teacher, make_image_set(PICTURES), 3, one_device)
    assert representations.num_features == 8
    expected = np.asarray(teacher(PICTURES / np.float32(255)))
    np.testing.assert_allclose(representations.outputs_of(INDICES), expected[INDICES], rtol=1e-4, atol=1e-5)
    again = np.array([3, 0, 3])
    np.testing.assert_allclose(representations.outputs_of(again), expected[again], rtol=1e-4, atol=1e-5)


def test_representations_in_a_file_are_those_in_memory(monkeypatch, tmp_path, teacher, one_device):
    in_memory = inference.Representations(teacher, make_image_set(PICTURES), 3, one_device, tmp_path)
    monkeypatch.setattr(rows, "_MOST_BYTES_IN_MEMORY", 0)
    in_file = inference.Representations(teacher, make_image_set(PICTURES), 3, one_device, tmp_path)
    for indices in (INDICES, np.array([3, 0, 3]), np.arange(24)):
        np.testing.assert_array_equal(in_file.outputs_of(indices), in_memory.outputs_of(indices))
        expected, moments = in_memory.moments(indices), in_file.moments(indices)
        np.testing.assert_array_equal(moments.scatter, expected.scatter)


def test_an_image_passes_through_the_teacher_once(teacher, one_device):
    images, read = counted(PICTURES)
    representations = inference.Representations(teacher, images, 4, one_device)
    representations.compute(np.concatenate([INDICES, INDICES]))
    representations.compute(np.arange(12))
    representations.moments(INDICES)
    assert sorted(read) == sorted({*INDICES.tolist(), *range(12)})


def test_scores_from_known_outputs_equal_those_from_both_networks(teacher, student, one_device):
    images = make_image_set(PICTURES)
    representations = inference.Representations(teacher, images, 5, one_device)
    gaussian = fit_gaussian(representations.moments(np.arange(24)))
    scores = inference.score(student, representations, gaussian, images, INDICES, 5, one_device)
    expected = anomaly_scores(student, teacher, gaussian, PICTURES[INDICES] / np.float32(255))
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-3)


def test_scores_of_other_numbers_of_images_compile_nothing(teacher, student, one_device, caplog):
    images = make_image_set(PICTURES)
    representations = inference.Representations(teacher, images, 4, one_device)
    gaussian = fit_gaussian(representations.moments(np.arange(24)))
    with caplog.at_level(logging.DEBUG, "jax._src.dispatch"):
        # Of a size, and with remainders, that no other test has compiled.
        for indices in (INDICES, INDICES[:5], np.arange(9)):
            caplog.clear()
            inference.score(student, representations, gaussian, images, indices, 4, one_device)
            compiled = [message for message in caplog.messages if message.startswith("Finished XLA compilation")]
            assert bool(compiled) == (indices is INDICES)


@pytest.mark.parametrize("path", ["student", "both"])
def test_brittleness_from_known_outputs_equals_that_from_both_networks(teacher, student, one_device, path):
    images = make_image_set(PICTURES)
    representations = inference.Representations(teacher, images, 5, one_device)
    terms = inference.measure_brittleness(student, teacher, representations, images, INDICES, 5, one_device, path=path)
    pixels = jnp.asarray(PICTURES[INDICES] / np.float32(255))
    expected = update_terms(empty_terms(8), student, teacher, pixels, path=path)
    assert terms.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert terms.error_trace == pytest.approx(expected.error_trace, rel=1e-4)


def test_outputs_that_are_not_finite_are_refused(one_device):
    broken = network(1)
    head = broken.variables["params"]["head"]["linear"]
    head["kernel"] = head["kernel"] * np.float32(np.nan)
    representations = inference.Representations(broken, make_image_set(PICTURES), 8, one_device)
    with pytest.raises(DegenerateDataError, match="not finite numbers: lower --config.pretrain.peak_learning_rate"):
        representations.compute(INDICES)


@pytest.mark.slow
def test_densenet161_is_measured_in_less_than_3_gb_and_four_times_the_images_add_little(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "")  # one device
    # The first run takes what compiling does; the others read programs, which take more of memory than compiled ones.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    students, peaks = growth.Students("densenet161", 224, are_trained=False), []
    for num_images in (64, 64, 256):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(growth.measure, (num_images, 1, students))
        print(num_images, measured)
        peaks.append(measured["memory_mib"])
    assert max(peaks) < 3e9 / 2**20
    assert peaks[2] < peaks[1] + 200  # the images themselves take 28 MiB, their representations 2
