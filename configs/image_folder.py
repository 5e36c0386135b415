"""Your own images: a folder `normal` and, beside it, a folder for each kind of anomaly if there are any; or a table.

The teacher is imagenet_lite, levels of EfficientNet-Lite0, where the extra `imagenet` is installed; otherwise a narrow
ResNet that learns to predict rotations of the normal images. Neither needs a GPU.

    python -m brittle_jax.main --config=configs/image_folder.py --config.data.path=DIR

A number after the colon is the side of the images in pixels. Another teacher is named the same way: rotnet, random,
autoencoder, denoising, simclr, baseline, or imagenet (DenseNet-161, with --config.teacher.weights). The side never
changes the network. --config.network.name=small_resnet takes the paper's ResNet, which is eight times as wide.

    python -m brittle_jax.main --config=configs/image_folder.py:224 --config.data.path=DIR
    python -m brittle_jax.main --config=configs/image_folder.py:64-autoencoder --config.data.path=DIR
"""

from brittle_jax.recipes import image_folder_row


def get_config(word=None):
    """Returns the settings; the word "smoke" makes them small."""
    return image_folder_row(word)
