import io

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data import preprocess


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_decoding_gives_three_channels_unchanged(mode):
    shape = (5, 7) if mode == "L" else (5, 7, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    expected = pixels if mode == "RGB" else np.repeat(pixels[..., None], 3, axis=-1)
    np.testing.assert_array_equal(preprocess.decode(buffer.getvalue()), expected)


@pytest.mark.parametrize(("shape", "side"), [((96, 96), 32), ((120, 160), 64), ((40, 30), 64), ((256, 171), 224)])
def test_resizing_is_bilinear_and_antialiased(torch, shape, side):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    planes = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    expected = torch.nn.functional.interpolate(planes, (side, side), mode="bilinear", antialias=True)
    difference = preprocess.decode(preprocess.encode_png(image), side) - expected[0].numpy().transpose(1, 2, 0)
    assert np.abs(difference).max() < 1.1  # Pillow rounds twice, once for each axis


def test_unit_range_ends_at_0_and_1():
    pixels = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(preprocess.to_unit_range(pixels), [0, 0.2, 1], rtol=1e-6)
