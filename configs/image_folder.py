"""Pictures of one's own: a folder `normal` and, beside it, folders of anomalies if there are any; or a CSV file.

A first look, without a GPU: images of 64 pixels, a narrow ResNet.

    python -m brittle_jax.main --config=configs/image_folder.py --config.data.path=DIR

A number is the side of the images in pixels: up to 96 the small ResNet learns, beyond that DenseNet-161.

    python -m brittle_jax.main --config=configs/image_folder.py:224 --config.data.path=DIR

Other teachers: --config.teacher.task=random, autoencoder (small ResNet alone), imagenet (DenseNet alone, with
--config.teacher.weights), ...
"""

from brittle_jax.recipes import image_folder_row


def get_config(word=None):
    """Returns the settings, with word "smoke" made small, with a number for images of that side."""
    return image_folder_row(word)
