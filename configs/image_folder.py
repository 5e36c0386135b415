"""Pictures of one's own: a folder `normal` and, beside it, folders of anomalies if there are any; or a CSV file.

A first look, without a GPU: images of 64 pixels, a narrow ResNet, a teacher that learns rotations of normal pictures.

    python -m brittle_jax.main --config=configs/image_folder.py --config.data.path=DIR

A number is the side of the images in pixels: up to 96 the narrow ResNet learns, beyond that DenseNet-161. Another
teacher is named the same way: random, autoencoder, denoising, simclr, baseline, imagenet (with
--config.teacher.weights). --config.network.name=small_resnet takes the paper's ResNet, which is eight times as wide.

    python -m brittle_jax.main --config=configs/image_folder.py:224 --config.data.path=DIR
    python -m brittle_jax.main --config=configs/image_folder.py:64-autoencoder --config.data.path=DIR
"""

from brittle_jax.recipes import image_folder_row


def get_config(word=None):
    """Returns the settings, with word "smoke" made small."""
    return image_folder_row(word)
