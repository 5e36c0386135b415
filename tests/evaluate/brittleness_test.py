import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate import brittleness as brittleness_lib
from brittle_jax.models.network import Network, init_variables
from tests.evaluate.detectors_test import IMAGES, network
from tests.mini_network import MINI


def mini(seed):
    """Returns a network of one convolution, which compiles in a moment."""
    module = MINI.with_output(16)
    return Network(module, init_variables(module, seed, IMAGES.shape[1:]))


def loss(student, teacher, image):
    return float(jnp.square(student(image[None]) - teacher(image[None])).mean())


@pytest.mark.parametrize("path", ["student", "both"])
def test_gradient_norms_equal_finite_differences(path):
    # A smooth network, so that differences are exact to second order.
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 48, 5)) / 7
    images = rng.uniform(size=(3, 4, 4, 3))
    with jax.enable_x64(True):
        student, teacher = (
            jax.tree_util.Partial(lambda w, x: jnp.tanh(x.reshape(len(x), -1) @ w), jnp.asarray(w)) for w in weights
        )
        norms = brittleness_lib.input_gradient_norms(student, teacher, jnp.asarray(images), path=path)
        for image, norm in zip(images, norms, strict=True):
            constant = teacher(jnp.asarray(image)[None])
            target = jax.tree_util.Partial(lambda c, x: c, constant) if path == "student" else teacher
            gradient = np.zeros(48)
            for pixel in range(48):
                step = np.zeros(48)
                step[pixel] = 1e-5
                step = step.reshape(4, 4, 3)
                difference = loss(student, target, image + step) - loss(student, target, image - step)
                gradient[pixel] = difference / 2e-5
            assert float(norm) == pytest.approx(np.linalg.norm(gradient), rel=1e-6)


@pytest.mark.parametrize("path", ["student", "both"])
def test_gradient_norms_equal_vmap_of_grad(path):
    # In float64: at a kink of ReLU or max, rounding may decide between two gradients.
    with jax.enable_x64(True):
        student, teacher = (jax.tree.map(lambda leaf: leaf.astype(np.float64), mini(seed)) for seed in (1, 2))
        images = IMAGES.astype(np.float64)

        def image_loss(image):
            target = teacher(image[None])
            if path == "student":
                target = jax.lax.stop_gradient(target)
            return jnp.square(student(image[None]) - target).mean()

        gradients = jax.vmap(jax.grad(image_loss))(images)
        expected = jnp.linalg.norm(gradients.reshape(len(images), -1), axis=1)
        norms = brittleness_lib.input_gradient_norms(student, teacher, images, path=path)
        assert norms.dtype == np.float64
        np.testing.assert_allclose(norms, expected, rtol=1e-9)


@pytest.mark.reference
def test_gradient_norms_equal_torch(torch):
    from tests.reference import torch_networks

    student, teacher = network(1, features=0), network(2, features=0)
    references = []
    for ours in (student, teacher):
        reference = torch_networks.SmallResNet((8, 16, 32, 64)).eval()
        reference.load({kind: leaves["trunk"] for kind, leaves in ours.variables.items()})
        references.append(reference)
    images = torch.tensor(IMAGES.transpose(0, 3, 1, 2), requires_grad=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (student.module.mean, student.module.std))
    outputs = [reference((images - mean) / std) for reference in references]
    (outputs[0] - outputs[1].detach()).square().mean(dim=1).sum().backward()
    expected = images.grad.flatten(1).norm(dim=1).numpy()
    norms = brittleness_lib.input_gradient_norms(student, teacher, IMAGES)
    np.testing.assert_allclose(norms, expected, rtol=1e-4)


def test_one_backward_pass_serves_a_whole_batch():
    traced = 0

    @jax.custom_vjp
    def identity(x):
        return x

    def backward(_, cotangent):
        nonlocal traced
        traced += 1
        return (cotangent,)

    identity.defvjp(lambda x: (x, None), backward)
    student = jax.tree_util.Partial(lambda x: identity(x).reshape(len(x), -1))
    teacher = jax.tree_util.Partial(lambda x: jnp.zeros((len(x), 3072)))
    norms = brittleness_lib.input_gradient_norms(student, teacher, IMAGES)
    expected = 2 * np.linalg.norm(IMAGES.reshape(len(IMAGES), -1), axis=1) / 3072
    assert traced == 1
    np.testing.assert_allclose(norms, expected, rtol=1e-5)


def test_the_two_paths_differ():
    student, teacher = mini(1), mini(2)
    norms = [brittleness_lib.input_gradient_norms(student, teacher, IMAGES, path=path) for path in ("student", "both")]
    assert np.abs(np.asarray(norms[0]) - np.asarray(norms[1])).max() > 1e-3 * np.max(norms[0])


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="'student' or 'both', not 'teacher'"):
        brittleness_lib.input_gradient_norms(mini(1), mini(2), IMAGES, path="teacher")


def test_terms_of_several_batches_equal_equation_2_written_out():
    student, teacher = mini(1), mini(2)
    terms = brittleness_lib.empty_terms(16)
    for start in range(0, 12, 4):
        padded = np.concatenate([IMAGES[start : start + 4], np.zeros_like(IMAGES[:2])])
        mask = np.arange(6) < 4
        terms = brittleness_lib.update_terms(terms, student, teacher, padded, mask)
    norms = np.asarray(brittleness_lib.input_gradient_norms(student, teacher, IMAGES), np.float64)
    errors = np.asarray(student(IMAGES) - teacher(IMAGES), np.float64)
    trace = np.trace(np.cov(errors, rowvar=False, ddof=1))
    assert terms.gradient_norm == pytest.approx(norms.mean(), rel=1e-5)
    assert terms.error_trace == pytest.approx(trace, rel=1e-4)
    ratio = brittleness_lib.brittleness(terms.gradient_norm, terms.error_trace)
    assert ratio == pytest.approx(norms.mean() / trace, rel=1e-4)


def test_rows_of_images_fold_into_equation_2():
    rng = np.random.default_rng(0)
    norms, errors = rng.uniform(size=300).astype(np.float32), (5 + rng.normal(size=(300, 7))).astype(np.float32)
    terms = brittleness_lib.terms_of(norms, errors)
    assert terms.gradient_norm == pytest.approx(norms.mean(dtype=np.float64), rel=1e-7)
    assert terms.error_trace == pytest.approx(errors.var(axis=0, ddof=1, dtype=np.float64).sum(), rel=1e-7)


def test_errors_that_do_not_vary_are_refused():
    with pytest.raises(DegenerateDataError, match="errors that vary"):
        brittleness_lib.brittleness(1.0, 0.0)
