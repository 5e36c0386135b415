import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.auxiliary import build_task
from brittle_jax.auxiliary.augmentation import CUTOUT_VALUE, Augmentation, cutout, random_crop
from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.auxiliary.simclr import SimCLR, jitter_colour, nt_xent, random_resized_crop, transform_image
from brittle_jax.models.network import ARCHITECTURES, init_variables

NOTHING = Augmentation(crop_padding_pixels=0, flip=False, cutout_pixels=0)
EVERYTHING = Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8)
IMAGES = np.random.default_rng(0).uniform(size=(6, 32, 32, 3)).astype(np.float32)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_rotations_equal_numpy_on_an_asymmetric_image():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    inputs, targets = RotNet(NOTHING).prepare(images, np.zeros(2, int), None)
    expected = np.concatenate([np.rot90(images, turns, axes=(1, 2)) for turns in range(4)])
    np.testing.assert_array_equal(inputs, expected)
    np.testing.assert_array_equal(targets, [0, 0, 1, 1, 2, 2, 3, 3])
    assert len({np.asarray(view).tobytes() for view in inputs}) == 8


def test_rotnet_never_mirrors_even_if_asked_to():
    inputs, _ = RotNet(Augmentation(0, flip=True, cutout_pixels=0)).prepare(IMAGES, np.zeros(6, int), keys(6))
    np.testing.assert_array_equal(inputs[:6], IMAGES)


def test_an_image_keeps_its_augmentation_in_all_rotations():
    task = RotNet(Augmentation(4, flip=False, cutout_pixels=8))
    inputs, _ = jax.jit(task.prepare)(IMAGES, np.zeros(6, int), keys(6))
    for turns in range(1, 4):
        np.testing.assert_array_equal(inputs[6 * turns : 6 * turns + 6], jnp.rot90(inputs[:6], turns, axes=(1, 2)))


def test_classification_keeps_images_and_labels():
    inputs, targets = Classification(10, EVERYTHING).prepare(IMAGES, np.arange(6), None)
    np.testing.assert_array_equal(inputs, IMAGES)
    np.testing.assert_array_equal(targets, np.arange(6))


@pytest.mark.parametrize("task", [Classification(4, NOTHING), RotNet(NOTHING)])
def test_losses_are_cross_entropies(task):
    outputs = np.array([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], np.float32)
    losses = task.losses(outputs, np.array([3, 0]))
    np.testing.assert_allclose(losses, [np.log(4), np.log(np.exp(2) + 3) - 2], rtol=1e-6)
    np.testing.assert_array_equal(task.metrics(outputs, np.array([3, 0]))["accuracy"], [False, True])


def test_augmentation_of_an_image_depends_on_its_own_key_alone():
    augment = jax.jit(EVERYTHING)
    together = augment(keys(6), IMAGES)
    alone = jnp.concatenate([augment(keys(6)[i : i + 1], IMAGES[i : i + 1]) for i in range(6)])
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(together, augment(keys(6, seed=1), IMAGES))


def test_crops_reach_every_place_and_cut_from_a_reflected_border():
    image = IMAGES[0]
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[r : r + 32, c : c + 32].tobytes(): (r, c) for r in range(9) for c in range(9)}
    crops = jax.jit(jax.vmap(lambda key: random_crop(key, image, 4)))(keys(2000))
    places = [windows[np.asarray(crop).tobytes()] for crop in crops]
    assert len(set(places)) == 81


def test_half_of_the_images_are_mirrored():
    flipped = Augmentation(0, flip=True, cutout_pixels=0)(keys(1000), np.repeat(IMAGES[:1], 1000, axis=0))
    mirrored = np.array([np.array_equal(image, IMAGES[0][:, ::-1]) for image in flipped])
    assert 430 < mirrored.sum() < 570
    assert all(np.array_equal(image, IMAGES[0]) for image in flipped[~mirrored])


def test_cutout_blanks_one_whole_square_anywhere():
    blanked = jax.jit(jax.vmap(lambda key: cutout(key, IMAGES[0, :16, :16], 8)))(keys(2000))
    is_blank = np.asarray((blanked == CUTOUT_VALUE).all(axis=-1))
    assert (is_blank.sum(axis=(1, 2)) == 64).all()
    assert is_blank.any(axis=0).all()


def test_the_noise_of_denoising_is_on_the_inputs_alone_and_as_strong_as_it_says():
    inputs, targets = Reconstruction(noise_deviation=0.1).prepare(IMAGES, np.zeros(6, int), keys(6))
    noise = np.asarray(inputs) - IMAGES
    np.testing.assert_array_equal(targets, IMAGES)
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert abs(noise.mean()) < 0.003
    assert np.asarray(inputs).min() < -0.05 and np.asarray(inputs).max() > 1.05  # not clipped
    assert np.abs(np.corrcoef(noise.reshape(6, -1)) - np.eye(6)).max() < 0.1  # another draw for each image


@pytest.mark.parametrize("task", [Reconstruction(0.0), Reconstruction(0.1)])
def test_without_keys_autoencoders_see_the_image_itself(task):
    inputs, targets = task.prepare(IMAGES, np.zeros(6, int), None)
    np.testing.assert_array_equal(inputs, IMAGES)
    np.testing.assert_array_equal(targets, IMAGES)


def test_the_loss_of_an_autoencoder_is_the_mean_squared_error_of_each_image():
    outputs = IMAGES + np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1) / 10
    np.testing.assert_allclose(Reconstruction(0.0).losses(outputs, IMAGES), np.arange(6) ** 2 / 100, atol=1e-6)


def test_an_autoencoder_decodes_the_code_alone_into_an_image_on_the_scale_of_pixels():
    module = Reconstruction(0.0).build_module(ARCHITECTURES["small_resnet_tiny"], 16, (32, 32, 3))
    variables = init_variables(module, 0, (32, 32, 3))
    assert variables["params"].keys() == {"trunk", "head", "decoder"}
    assert variables["params"]["head"]["linear"]["kernel"].shape == (64, 16)
    outputs = jax.jit(module.apply)(variables, IMAGES)
    assert outputs.shape == IMAGES.shape
    # The encoder is the network that is distilled: its code, decoded, is the reconstruction.
    encoder = ARCHITECTURES["small_resnet_tiny"].with_output(16)
    codes = jax.jit(encoder.apply)(
        {key: {k: v for k, v in tree.items() if k != "decoder"} for key, tree in variables.items()}, IMAGES
    )
    decoded = jax.jit(module.decoder.apply)({key: tree["decoder"] for key, tree in variables.items()}, codes)
    expected = np.asarray(decoded) * np.asarray(module.std) + np.asarray(module.mean)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def nt_xent_in_words(embeddings, temperature):
    """SimCLR's Equation 1 in float64, a pair at a time."""
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    count, losses = len(unit) // 2, []
    for i in range(2 * count):
        other = (i + count) % (2 * count)
        similarity = [np.exp(unit[i] @ unit[k] / temperature) for k in range(2 * count) if k != i]
        losses.append(-np.log(np.exp(unit[i] @ unit[other] / temperature) / sum(similarity)))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_its_definition(temperature):
    embeddings = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    np.testing.assert_allclose(nt_xent(embeddings, temperature), nt_xent_in_words(embeddings, temperature), rtol=1e-5)


@pytest.mark.reference
def test_nt_xent_equals_torchs_cross_entropy(torch):
    embeddings = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    unit = torch.nn.functional.normalize(torch.tensor(embeddings), dim=1)
    logits = (unit @ unit.T / 0.5).fill_diagonal_(-float("inf"))
    targets = torch.roll(torch.arange(16), 8)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    np.testing.assert_allclose(nt_xent(embeddings, 0.5), expected.numpy(), rtol=1e-5)


def test_nt_xent_over_devices_is_that_of_all_of_them():
    embeddings = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)  # views, images, features
    expected = nt_xent(embeddings.reshape(16, 5), 0.5).reshape(2, 8)
    shares = np.stack([embeddings[:, 2 * device : 2 * device + 2].reshape(4, 5) for device in range(4)])
    losses = jax.jit(jax.vmap(lambda share: nt_xent(share, 0.5, "batch"), axis_name="batch"))(shares)
    np.testing.assert_allclose(np.asarray(losses).reshape(4, 2, 2), expected.reshape(2, 4, 2).swapaxes(0, 1), rtol=1e-5)


def test_equal_views_of_unlike_images_cost_little_and_an_embedding_of_zero_is_no_accident():
    assert float(nt_xent(np.concatenate([np.eye(4), np.eye(4)]).astype(np.float32), 0.05).max()) < 1e-6
    assert np.isfinite(jax.jit(jax.grad(lambda x: nt_xent(x, 0.5).sum()))(np.zeros((4, 3), np.float32))).all()


def test_simclr_makes_two_unlike_views_of_each_image():
    prepare = jax.jit(lambda images, keys: SimCLR(0.5, 0.5).prepare(images, np.zeros(6, int), keys)[0])
    inputs = prepare(IMAGES, keys(6))
    assert inputs.shape == (12, 32, 32, 3)
    assert len({np.asarray(view).tobytes() for view in inputs}) == 12
    assert np.asarray(inputs).min() >= 0 and np.asarray(inputs).max() <= 1
    # Neither the other images nor their keys matter, nor where an image stands.
    others = prepare(IMAGES[[2, 0, 0, 1, 1, 0]], keys(6)[jnp.array([2, 4, 5, 0, 1, 3])])
    np.testing.assert_allclose(others[jnp.array([0, 6])], inputs[jnp.array([2, 8])], atol=1e-6)


def test_crops_have_the_area_and_aspect_that_they_should():
    # Two ramps tell where a crop lies and how large it is.
    rows, columns = np.mgrid[:64, :64].astype(np.float32) / 63
    image = np.stack([rows, columns, rows], axis=-1)
    crops = np.asarray(jax.jit(jax.vmap(lambda key: random_resized_crop(key, image)))(keys(3000)))
    # Away from the edges, where bilinear weights are cut off.
    height = (crops[:, 48, 32, 0] - crops[:, 16, 32, 0]) * 63 / 32
    width = (crops[:, 32, 48, 1] - crops[:, 32, 16, 1]) * 63 / 32
    area, aspect = height * width, width / height
    assert 0.075 < area.min() < 0.1 and 0.95 < area.max() < 1.03
    assert 0.74 < aspect.min() < 0.79 and 1.27 < aspect.max() < 1.35
    # Uniform, but where a long box does not fit into the image.
    assert area.mean() == pytest.approx(0.53, abs=0.02)
    assert np.median(np.log(aspect)) == pytest.approx(0, abs=0.02)
    assert crops[:, 32, 32, 0].min() < 0.25 and crops[:, 32, 32, 0].max() > 0.75


def test_the_whole_image_is_a_crop_of_itself():
    crop = jax.image.scale_and_translate(IMAGES[0], (32, 32, 3), (0, 1), jnp.ones(2), jnp.zeros(2), method="linear")
    np.testing.assert_allclose(crop, IMAGES[0], atol=1e-6)


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})  # thousands take long without
def views_of(keys, image, strength):
    """Views of an image [32, 32, 3]; one program makes them for all tests."""
    return jax.vmap(lambda key: transform_image(key, image, strength))(keys)


@jax.jit
def jitter(keys, image, strength):
    return jax.vmap(lambda key: jitter_colour(key, image, strength))(keys)


def jittered(image, strength=0.5):
    """Returns 4000 jittered copies of an image [4, 4, 3]; one program does it for all tests."""
    return np.asarray(jitter(keys(4000), image, strength))


def test_colour_jitter_has_the_strength_that_it_should():
    image = np.broadcast_to(np.array([0.5, 0.5, 0.5], np.float32), (4, 4, 3))  # grey: brightness alone changes it
    shifts = jittered(image)[:, 0, 0] - 0.5
    np.testing.assert_allclose(shifts, shifts[:, :1].repeat(3, axis=1), atol=1e-5)
    assert -0.4 <= shifts.min() < -0.39 and 0.39 < shifts.max() <= 0.4
    assert shifts.mean() == pytest.approx(0, abs=0.01)
    unchanged = np.broadcast_to(IMAGES[0, :4, :4], (4000, 4, 4, 3))
    np.testing.assert_allclose(jittered(IMAGES[0, :4, :4], 0.0), unchanged, atol=1e-5)


def test_a_fifth_of_the_views_is_grey_and_four_fifths_are_jittered():
    image = np.broadcast_to(np.array([0.8, 0.4, 0.2], np.float32), (32, 32, 3))
    views = np.asarray(views_of(keys(4000), image, 0.5))[:, 16, 16]
    is_grey = np.ptp(views, axis=1) < 1e-4
    assert is_grey.mean() == pytest.approx(0.2, abs=0.03)
    is_unchanged = np.abs(views[~is_grey] - image[0, 0]).max(axis=1) < 1e-4
    assert is_unchanged.mean() == pytest.approx(0.2, abs=0.03)


def test_contrast_is_scaled_by_0_6_to_1_4():
    stripes = np.full((4, 4, 3), 0.45, np.float32)
    stripes[:, ::2] = 0.55  # grey: saturation and hue change nothing, brightness both alike
    scales = np.ptp(jittered(stripes)[:, 0, :2, 0], axis=1) / 0.1
    assert 0.6 <= scales.min() + 1e-4 and scales.min() < 0.61 and 1.39 < scales.max() <= 1.4 + 1e-4
    assert scales.mean() == pytest.approx(1, abs=0.02)


def test_saturation_is_scaled_by_0_6_to_1_4_and_hue_turned_by_a_tenth_either_way():
    image = np.broadcast_to(np.array([0.55, 0.5, 0.45], np.float32), (4, 4, 3))  # one colour: contrast changes nothing
    colours = jittered(image)[:, 0, 0].astype(float)
    chroma = np.ptp(colours, axis=1) / 0.1
    assert 0.6 <= chroma.min() + 1e-3 and chroma.min() < 0.61 and 1.39 < chroma.max() <= 1.4 + 1e-3
    hues = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in colours])
    turns = (hues - 1 / 12 + 0.5) % 1 - 0.5
    assert -0.1 <= turns.min() + 1e-3 and turns.min() < -0.098 and 0.098 < turns.max() <= 0.1 + 1e-3
    assert turns.mean() == pytest.approx(0, abs=0.005)


def test_half_of_the_views_are_mirrored_and_all_are_crops():
    ramp = np.broadcast_to(np.linspace(0.3, 0.7, 32, dtype=np.float32)[None, :, None], (32, 32, 3))
    views = np.asarray(views_of(keys(4000), ramp, 0.0))
    slopes = (views[:, 16, 24, 0] - views[:, 16, 8, 0]) / (ramp[16, 24, 0] - ramp[16, 8, 0])
    assert (slopes < 0).mean() == pytest.approx(0.5, abs=0.04)
    assert np.abs(slopes).min() < 0.35 and np.abs(slopes).max() > 0.95  # width of a crop: from sqrt(0.08 * 3 / 4) to 1


def over_devices(function, embeddings):
    return np.asarray(jax.jit(jax.vmap(function, axis_name="batch"))(embeddings[None]))[0]


def test_simclr_counts_the_most_similar_view_and_divides_by_its_temperature():
    pairs = np.concatenate([np.eye(4), np.eye(4)]).astype(np.float32)
    mismatched = np.concatenate([np.eye(4), np.eye(4)[[1, 0, 3, 2]]]).astype(np.float32)
    for embeddings, expected in ((pairs, 1.0), (mismatched, 0.0)):
        accuracy = over_devices(lambda x: SimCLR(0.5, 0.5).metrics(x, None)["accuracy"], embeddings)
        assert accuracy.mean() == expected
    embeddings = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    losses = over_devices(lambda x: SimCLR(0.1, 0.5).losses(x, None), embeddings)
    np.testing.assert_allclose(losses, nt_xent_in_words(embeddings, 0.1), rtol=1e-5, atol=1e-6)  # rounding of logits


def test_simclr_projects_to_128_features_by_two_layers_with_a_relu_between():
    module = SimCLR(0.5, 0.5).build_module(ARCHITECTURES["small_resnet_tiny"], 16, (32, 32, 3))
    variables = init_variables(module, 0, (32, 32, 3))
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    kernels = [leaf for leaf in jax.tree.leaves(head) if leaf.ndim == 2]
    biases = [leaf for leaf in jax.tree.leaves(head) if leaf.ndim == 1]
    trunk = ARCHITECTURES["small_resnet_tiny"].with_output(0)
    pooled = np.asarray(
        jax.jit(trunk.apply)({kind: {"trunk": tree["trunk"]} for kind, tree in variables.items()}, IMAGES)
    )
    first, second = sorted(kernels, key=lambda kernel: kernel.shape == (64, 128))
    bias = {leaf.shape[0]: leaf for leaf in biases}
    hidden = np.maximum(pooled @ first + bias.get(64, 0), 0)
    outputs = jax.jit(module.apply)(variables, IMAGES)
    np.testing.assert_allclose(outputs, hidden @ second + bias.get(128, 0), atol=1e-4)


def test_each_task_gets_the_settings_that_are_its_own(cifar10_config):
    pretrain = cifar10_config.pretrain
    pretrain.noise_deviation, pretrain.temperature, pretrain.colour_strength = 0.3, 0.2, 0.7
    assert build_task("denoising", pretrain, 10) == Reconstruction(0.3)
    assert build_task("autoencoder", pretrain, 10) == Reconstruction(0.0)
    assert build_task("simclr", pretrain, 10) == SimCLR(0.2, 0.7)
    assert build_task("rotnet", pretrain, 10).num_classes == 4
    assert (
        build_task("classification", pretrain, 10).num_classes == build_task("baseline", pretrain, 10).num_classes == 10
    )


def test_the_decoder_mirrors_the_encoder():
    module = Reconstruction(0.0).build_module(ARCHITECTURES["small_resnet_tiny"], 16, (32, 32, 3))
    params = init_variables(module, 0, (32, 32, 3))["params"]

    def channels(tree):
        return sorted(leaf.shape[2:] for leaf in jax.tree.leaves(tree) if leaf.ndim == 4)

    assert channels(params["decoder"]) == sorted((out, into) for into, out in channels(params["trunk"]))
