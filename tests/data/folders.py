"""Pictures in folders, made up for the tests."""

import os

import numpy as np
from PIL import Image


def save(file, value=0, size=(20, 30)):
    """Saves a picture of noise around a grey value."""
    noise = np.random.default_rng([value, *os.fsencode(file.name)]).integers(0, 20, (*size, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((value + noise).astype(np.uint8)).save(file)
