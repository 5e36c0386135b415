"""Your own images: a folder `normal` and, beside it, a folder for each kind of anomaly if there are any; or a table.

A first look, without a GPU: images of 64 pixels, a narrow ResNet, a teacher trained to predict rotations of the normal
images.

    python -m brittle_jax.main --config=configs/image_folder.py --config.data.path=DIR

A number after the colon is the side of the images in pixels: up to 96 takes the narrow ResNet, more takes DenseNet-161.
Another teacher is named the same way: random, autoencoder, denoising, simclr, baseline, imagenet (with
--config.teacher.weights), or imagenet_lite (EfficientNet-Lite0, from the extra `imagenet`).
--config.network.name=small_resnet takes the paper's ResNet, which is eight times as wide.

    python -m brittle_jax.main --config=configs/image_folder.py:224 --config.data.path=DIR
    python -m brittle_jax.main --config=configs/image_folder.py:64-autoencoder --config.data.path=DIR
"""

from brittle_jax.recipes import image_folder_row


def get_config(word=None):
    """Returns the settings; the word "smoke" makes them small."""
    return image_folder_row(word)
