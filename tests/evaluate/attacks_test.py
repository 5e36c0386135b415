import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.evaluate import attacks, detectors
from brittle_jax.evaluate.moments import empty_moments, update_moments

NORMS = pytest.mark.parametrize("norm", attacks.NORMS)
IMAGES = np.random.default_rng(0).uniform(0.1, 0.9, size=(6, 4, 4, 3)).astype(np.float32)


def linear(weights, images):
    return (images * weights[None]).sum(axis=(1, 2, 3))


def tanh_layer(weights, images):
    return jnp.tanh(images.reshape(len(images), -1) @ weights)


WEIGHTS = np.random.default_rng(1).normal(size=(4, 4, 3)).astype(np.float32)
LINEAR = jax.tree_util.Partial(linear, WEIGHTS)
STUDENT, TEACHER = (
    jax.tree_util.Partial(tanh_layer, np.random.default_rng(seed).normal(size=(48, 5)).astype(np.float32) / 4)
    for seed in (2, 3)
)
KD = jax.tree_util.Partial(detectors.distillation_score, STUDENT, TEACHER)


class FourScores:
    """A detector of the smallest networks."""

    gaussian = detectors.fit_gaussian(
        update_moments(empty_moments(5, full=True), TEACHER(np.random.default_rng(4).uniform(size=(50, 4, 4, 3))))
    )
    scores = jax.tree_util.Partial(detectors.anomaly_scores, STUDENT, TEACHER, gaussian)


def dual(norm):
    return np.linalg.norm(WEIGHTS) if norm == "l2" else np.abs(WEIGHTS).sum()


def distances(perturbed, norm):
    differences = (np.asarray(perturbed, np.float64) - IMAGES).reshape(len(IMAGES), -1)
    return np.linalg.norm(differences, axis=1, ord=2 if norm == "l2" else np.inf)


@NORMS
@pytest.mark.parametrize("direction", [1, -1])
def test_a_linear_score_moves_by_the_dual_norm(norm, direction):
    perturbed = attacks.perturb(LINEAR, IMAGES, 0.05, direction, norm=norm, num_steps=5)
    moved = np.asarray(perturbed.scores) - np.asarray(LINEAR(IMAGES))
    np.testing.assert_allclose(moved, direction * 0.05 * dual(norm), rtol=1e-4)
    np.testing.assert_allclose(distances(perturbed.images, norm), 0.05, rtol=1e-4)
    np.testing.assert_allclose(LINEAR(perturbed.images), perturbed.scores, rtol=1e-5)


@NORMS
def test_images_stay_in_range_and_each_has_its_own_radius_and_direction(norm):
    epsilon, direction = np.array([0, 0.01, 0.1, 1, 10, 100], np.float32), np.array([1, -1, 1, -1, 1, -1])
    perturbed = attacks.perturb(KD, IMAGES, epsilon, direction, norm=norm, num_steps=10)
    assert perturbed.images.min() >= 0 and perturbed.images.max() <= 1
    assert (distances(perturbed.images, norm) <= epsilon * (1 + 1e-5)).all()
    np.testing.assert_array_equal(perturbed.images[0], IMAGES[0])
    assert ((direction * (perturbed.scores - KD(IMAGES)))[1:] > 0).all()


@pytest.mark.parametrize("name", detectors.scores_of_outputs(np.ones((1, 5)), np.ones((1, 5)), FourScores.gaussian))
def test_every_detector_can_be_attacked(name):
    score = attacks.DetectorScore(FourScores.scores, name)
    before = score(IMAGES)
    raised, lowered = (attacks.perturb(score, IMAGES, 0.2, sign, num_steps=5).scores for sign in (1, -1))
    assert (raised > 1.05 * before).all() and (lowered < 0.95 * before).all()


def test_another_radius_or_number_of_steps_compiles_nothing():
    traced = 0

    def score(images):
        nonlocal traced
        traced += 1
        return jnp.square(images).sum(axis=(1, 2, 3))

    function = jax.tree_util.Partial(score)
    attacks.perturb(function, IMAGES, 0.1, num_steps=3)
    before = traced
    attacks.perturb(function, IMAGES, 0.2, -1, num_steps=4)
    attacks.perturb(function, IMAGES, np.full(6, 0.3), num_steps=5)
    attacks.smallest_perturbation(function, IMAGES, 20.0, largest=1.0, num_steps=3, num_bisections=2)
    assert traced == before


@NORMS
def test_results_do_not_depend_on_the_rest_of_the_batch(norm):
    keys = jax.random.split(jax.random.key(0), 6)
    order = np.array([3, 0, 5, 1, 4, 2])
    together = attacks.perturb(KD, IMAGES, 0.1, norm=norm, num_steps=5, keys=keys)
    shuffled = attacks.perturb(KD, IMAGES[order], 0.1, norm=norm, num_steps=5, keys=keys[order])
    np.testing.assert_allclose(np.asarray(together.images)[order], shuffled.images, atol=1e-6)
    for number in (0, 5):
        alone = attacks.perturb(KD, IMAGES[number:][:1], 0.1, norm=norm, num_steps=5, keys=keys[number:][:1])
        np.testing.assert_allclose(alone.scores[0], together.scores[number], rtol=1e-5)


@NORMS
def test_one_program_of_all_steps_gives_the_same(norm):
    stepwise, at_once = (
        attacks.perturb(KD, IMAGES, 0.1, norm=norm, num_steps=5, in_one_program=value) for value in (False, True)
    )
    np.testing.assert_allclose(stepwise.scores, at_once.scores, rtol=1e-5)
    np.testing.assert_allclose(stepwise.images, at_once.images, atol=1e-5)


@NORMS
def test_a_random_start_leaves_a_flat_spot(norm):
    score = jax.tree_util.Partial(lambda centre, x: jnp.square(x - centre).sum(axis=(1, 2, 3)), IMAGES)
    stuck = attacks.perturb(score, IMAGES, 0.1, norm=norm, num_steps=10)
    np.testing.assert_array_equal(stuck.scores, np.zeros(6))
    keys = jax.random.split(jax.random.key(1), 6)
    freed = attacks.perturb(score, IMAGES, 0.1, norm=norm, num_steps=10, keys=keys)
    np.testing.assert_allclose(freed.scores, 0.01 if norm == "l2" else 0.48, rtol=1e-3)


@NORMS
def test_the_smallest_perturbation_of_a_linear_score_is_found_and_crosses(norm):
    scores = np.asarray(LINEAR(IMAGES))
    threshold = float(np.median(scores)) + 0.1
    direction = np.where(scores > threshold, -1, 1)
    direction[0] *= -1  # past the threshold by itself
    found = attacks.smallest_perturbation(
        LINEAR, IMAGES, threshold, direction, largest=2.0, norm=norm, num_steps=5, num_bisections=14
    )
    expected = np.abs(threshold - scores) / dual(norm)
    expected[0] = 0
    np.testing.assert_allclose(found.distances, expected, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(distances(found.images, norm), found.distances, rtol=1e-4, atol=1e-6)
    is_above = np.asarray(LINEAR(found.images)) > threshold
    np.testing.assert_array_equal(is_above, direction > 0)


def test_a_threshold_out_of_reach_gives_an_infinite_distance():
    found = attacks.smallest_perturbation(LINEAR, IMAGES, 1e6, largest=0.5, num_steps=2, num_bisections=2)
    np.testing.assert_array_equal(found.distances, np.full(6, np.inf))
    np.testing.assert_array_equal(found.images, IMAGES)


@NORMS
@pytest.mark.parametrize("direction", [1, -1])
def test_slopes_equal_finite_differences_and_the_growth_of_small_attacks(norm, direction):
    images = IMAGES.copy()
    images[:, 0], images[:, 1] = 0, 1  # half of the pixels cannot go everywhere
    with jax.enable_x64(True):
        images = images.astype(np.float64)
        scores, slopes = attacks.slopes(KD, images, direction, norm=norm)
        gradients = np.zeros_like(images)
        for pixel in np.ndindex(4, 4, 3):
            step = np.zeros((4, 4, 3))
            step[pixel] = 1e-5
            gradients[(slice(None), *pixel)] = (KD(images + step) - KD(images - step)) / 2e-5
        wanted = direction * gradients
        gradients[(wanted > 0) & (images == 1) | (wanted < 0) & (images == 0)] = 0
        order = 2 if norm == "l2" else 1
        expected = np.linalg.norm(gradients.reshape(6, -1), axis=1, ord=order)
        np.testing.assert_allclose(slopes, expected, rtol=1e-6)
        errors = []
        for epsilon in (1e-2, 1e-3, 1e-4):
            grown = attacks.perturb(KD, images, epsilon, direction, norm=norm, num_steps=40).scores - scores
            errors.append(np.abs(direction * grown / (epsilon * slopes) - 1).max())
    assert errors[0] > 5 * errors[1] > 20 * errors[2] and errors[2] < 1e-2


@pytest.mark.reference
@NORMS
@pytest.mark.parametrize("direction", [1, -1])
def test_attacks_equal_those_of_foolbox(foolbox, torch, norm, direction):
    # foolbox attacks classifiers: of two logits, the second is the score above its threshold. The gradient of the
    # cross-entropy is that of the score, but for a factor, which both norms drop.
    weights = [torch.tensor(np.asarray(each.args[0])) for each in (STUDENT, TEACHER)]

    class TwoLogits(torch.nn.Module):
        def forward(self, images):
            outputs = [torch.tanh(images.flatten(1) @ each) for each in weights]
            score = (outputs[0] - outputs[1]).square().sum(dim=1)
            return torch.stack([torch.zeros_like(score), direction * (score - 1)], dim=1)

    model = foolbox.PyTorchModel(TwoLogits().eval(), bounds=(0, 1), device="cpu")
    attack = {"l2": foolbox.attacks.L2PGD, "linf": foolbox.attacks.LinfPGD}[norm]
    epsilon = 0.3 if norm == "l2" else 0.05
    attack = attack(abs_stepsize=epsilon / 4, steps=8, random_start=False)
    labels = torch.zeros(6, dtype=torch.long)  # which the attack leads away from
    _, expected, _ = attack(model, torch.tensor(IMAGES), labels, epsilons=epsilon)
    actual = attacks.perturb(KD, IMAGES, epsilon, direction, norm=norm, num_steps=8, step_size=epsilon / 4)
    np.testing.assert_allclose(actual.scores, KD(expected.numpy()), rtol=1e-4)
    if norm == "l2":  # where the score is flat, signs of tiny gradients differ
        np.testing.assert_allclose(actual.images, expected.numpy(), atol=2e-4)
