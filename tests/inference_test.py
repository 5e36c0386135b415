import multiprocessing

import jax
import numpy as np
import pytest

from benchmarks import growth
from brittle_jax.apply.brittleness import measure_brittleness
from brittle_jax.apply.detector import Detector, score
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.brittleness import empty_terms, input_gradient_norms, update_terms
from brittle_jax.evaluate.detectors import anomaly_scores, fit_gaussian
from brittle_jax.evaluate.moments import moments_of
from brittle_jax.inference import Representations, outputs, pass_over
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, NetworkSettings, init_variables
from tests.conftest import make_dataset

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
PIXELS = PICTURES / np.float32(255)
IMAGES = make_dataset(PICTURES).images
# Not in the order of the images, and some are left out.
INDICES = np.array([5, 3, 20, 1, 17, 11, 8])
NETWORK = NetworkSettings("mini", 8)


def network(seed):
    return Network(NETWORK.module, init_variables(NETWORK.module, seed, (16, 16, 3)))


@pytest.fixture(scope="module")
def detector(one_device):
    """A detector of drawn networks."""
    teacher = network(1)
    gaussian = fit_gaussian(moments_of(outputs(teacher, IMAGES, np.arange(24), Loop(one_device, 8), "outputs")))
    return Detector(network(2), teacher, gaussian, NETWORK, Preprocessing(16))


def counted():
    """Returns the images, and the list of those that have been read."""
    read = []

    def read_image(index):
        read.append(index)
        return PICTURES[index]

    return make_dataset(PICTURES, read=read_image).images, read


@pytest.fixture
def compilations():
    """Counts the programs that are compiled, or read from the cache."""
    events = []

    def listen(event, duration, **others):
        if event.endswith("backend_compile_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


def test_representations_are_the_teachers_outputs(detector, one_device):
    representations = Representations(detector.teacher, IMAGES, Loop(one_device, 3))
    assert representations.num_features == 8
    expected = np.asarray(detector.teacher(PIXELS))
    for indices in (INDICES, np.array([3, 0, 3])):
        np.testing.assert_allclose(representations.outputs_of(indices), expected[indices], rtol=1e-4, atol=1e-5)


def test_representations_in_a_file_are_those_in_memory(tmp_path, detector, one_device):
    loop = Loop(one_device, 3)
    in_memory = Representations(detector.teacher, IMAGES, loop, tmp_path)
    in_file = Representations(detector.teacher, IMAGES, loop, tmp_path, most_bytes_in_memory=0)
    for indices in (INDICES, np.array([3, 0, 3]), np.arange(24)):
        np.testing.assert_array_equal(in_file.outputs_of(indices), in_memory.outputs_of(indices))
        expected, actual = (moments_of(each.compute(indices), indices) for each in (in_memory, in_file))
        np.testing.assert_array_equal(actual.scatter, expected.scatter)


def test_an_image_passes_through_the_teacher_once(detector, one_device):
    images, read = counted()
    representations = Representations(detector.teacher, images, Loop(one_device, 4))
    representations.compute(np.concatenate([INDICES, INDICES]))
    representations.compute(np.arange(12))
    representations.outputs_of(INDICES)
    assert sorted(read) == sorted({*INDICES.tolist(), *range(12)})


# The second shares three images with the first. On four devices their batches have 8, 8 and 4 places.
GROUPS = [np.arange(5), np.array([20, 3, 9, 4, 17, 6, 11, 2, 12]), np.array([23, 5, 22])]
IN_ANY_ORDER = [
    [np.array([22]), np.array([12, 1]), np.array([2])],
    [np.arange(24)],
    [np.array([3, 17]), np.array([13, 14]), np.array([23, 6, 0])],
    [np.array([12, 12]), np.array([9])],
]


def grouped(detector, images, devices, folder=None):
    return Representations(detector.teacher, images, Loop(devices, 8, folder=folder), groups=GROUPS)


def computed_with(indices):
    """Returns the images that are computed if some are asked for: the groups of these, and a new one of the others."""
    disjoint = [GROUPS[0], np.setdiff1d(GROUPS[1], GROUPS[0]), GROUPS[2]]
    whole = [group for group in disjoint if np.isin(group, indices).any()]
    return np.unique(np.concatenate([*whole, indices])).tolist()


@pytest.mark.parametrize("order", range(len(IN_ANY_ORDER)))
def test_rows_are_the_same_bits_whatever_is_asked_for_first(detector, four_devices, order):
    expected = grouped(detector, IMAGES, four_devices)
    for group in GROUPS:
        expected.compute(group)
    asked = IN_ANY_ORDER[order]
    representations = grouped(detector, IMAGES, four_devices)
    for indices in asked:
        representations.compute(indices)
    known = np.intersect1d(np.concatenate(GROUPS), np.concatenate(asked))
    np.testing.assert_array_equal(representations.outputs_of(known), expected.outputs_of(known))


def test_rows_do_depend_on_the_images_that_share_their_batch(detector, four_devices):
    """Or else the test above would prove nothing."""
    in_groups = grouped(detector, IMAGES, four_devices).outputs_of(GROUPS[2])
    alone = Representations(detector.teacher, IMAGES, Loop(four_devices, 8), groups=[np.arange(24)])
    assert not np.array_equal(alone.outputs_of(GROUPS[2]), in_groups)


@pytest.mark.parametrize("indices", [np.array([17]), np.array([22, 4]), np.array([19, 0, 19]), np.arange(24)])
def test_whole_groups_are_computed_once_and_no_others(detector, one_device, indices):
    images, read = counted()
    representations = grouped(detector, images, one_device)
    representations.compute(indices)
    assert sorted(read) == computed_with(indices)
    representations.compute(np.array(read))
    assert sorted(read) == computed_with(indices)


def test_groups_that_were_kept_are_not_computed_again(detector, one_device, tmp_path):
    first = grouped(detector, IMAGES, one_device, tmp_path)
    first.compute(np.array([22, 9]))
    images, read = counted()
    again = grouped(detector, images, one_device, tmp_path)
    again.compute(np.array([1]))
    again.compute(np.array([9, 22]))
    assert sorted(read) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(again.outputs_of(np.array([9, 22, 6])), first.outputs_of(np.array([9, 22, 6])))
    assert read.count(0) == 1


def test_a_pass_of_other_images_or_another_network_or_batch_size_is_not_taken_for_one_that_was_kept(
    detector, one_device, tmp_path
):
    def read_by(model, indices, batch_size):
        images, read = counted()
        outputs(model, images, indices, Loop(one_device, batch_size, folder=tmp_path), "outputs")
        return len(read)

    teacher, student = detector.teacher, detector.student
    for known in (7, 0):
        assert read_by(teacher, INDICES, 3) == known
        assert read_by(student, INDICES, 3) == known
        assert read_by(teacher, INDICES[::-1], 3) == known
        assert read_by(teacher, INDICES, 4) == known
    assert read_by(teacher, INDICES, 7) == 7


def test_a_pass_over_several_devices_is_played_back(detector, four_devices, tmp_path):
    loop = Loop(four_devices, 8, folder=tmp_path)
    first = measure_brittleness(detector, IMAGES, INDICES, loop)
    images, read = counted()
    again = measure_brittleness(detector, images, INDICES, loop)
    assert read == []
    np.testing.assert_array_equal(again.gradient_norms, first.gradient_norms)
    np.testing.assert_array_equal(again.errors[np.arange(7)], first.errors[np.arange(7)])


def test_a_pass_hands_over_rows_in_order_with_labels_and_targets(one_device):
    seen = []

    class Targets:
        def outputs_of(self, indices):
            return indices[:, None].astype(np.float32)

    def rows_of_batch(scale, model, batch):
        return {"row": scale * model * batch["target"][:, 0] + batch["label"]}

    pass_over(
        IMAGES,
        INDICES,
        rows_of_batch,
        np.float32(3),
        Loop(one_device, 3),
        "rows",
        lambda chosen, rows: seen.append((chosen, rows["row"][: chosen.stop - chosen.start])),
        static=(2.0,),
        labels=np.arange(7) % 2,
        targets=Targets(),
    )
    assert [(chosen.start, chosen.stop) for chosen, _ in seen] == [(0, 3), (3, 6), (6, 7)]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in seen]), 6 * INDICES + np.arange(7) % 2)


def test_scores_from_known_outputs_equal_those_from_both_networks(detector, one_device):
    loop = Loop(one_device, 5)
    scores = score(detector, IMAGES, INDICES, loop, Representations(detector.teacher, IMAGES, loop))
    alone = score(detector, IMAGES, INDICES, loop)
    expected = anomaly_scores(detector.student, detector.teacher, detector.gaussian, PIXELS[INDICES])
    called = detector(PIXELS[INDICES])
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-3)
        np.testing.assert_array_equal(alone[name], scores[name])
        np.testing.assert_array_equal(called[name], values)


def test_scores_of_other_numbers_of_images_compile_nothing(detector, one_device, compilations):
    loop = Loop(one_device, 4)
    counts = []
    for indices in (INDICES, INDICES[:5], np.arange(9)):
        before = len(compilations)
        score(detector, IMAGES, indices, loop)
        counts.append(len(compilations) - before)
    assert counts[1:] == [0, 0]


@pytest.mark.parametrize("path", ["student", "both"])
def test_brittleness_from_known_outputs_equals_that_from_both_networks(detector, one_device, path):
    measured = measure_brittleness(detector, IMAGES, INDICES, Loop(one_device, 5), path=path)
    expected = update_terms(empty_terms(8), detector.student, detector.teacher, PIXELS[INDICES], path=path)
    assert measured.terms.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert measured.terms.error_trace == pytest.approx(expected.error_trace, rel=1e-4)
    norms = input_gradient_norms(detector.student, detector.teacher, PIXELS[INDICES], path=path)
    np.testing.assert_allclose(measured.gradient_norms, norms, rtol=1e-3)
    errors = detector.student(PIXELS[INDICES]) - detector.teacher(PIXELS[INDICES])
    np.testing.assert_allclose(measured.errors[np.arange(7)], errors, rtol=1e-3, atol=1e-5)


def test_outputs_that_are_not_finite_are_refused(one_device):
    broken = network(1)
    head = broken.variables["params"]["head"]["linear"]
    head["kernel"] = head["kernel"] * np.float32(np.nan)
    representations = Representations(broken, IMAGES, Loop(one_device, 8))
    with pytest.raises(DegenerateDataError, match="not finite numbers: lower pretrain.peak_learning_rate"):
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
