"""Reads DenseNet weights that PyTorch libraries publish as `.pth` or `.safetensors` into the Flax module."""

import hashlib
import importlib.metadata
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.errors import UserError

DENSENET161_URL = "https://download.pytorch.org/models/densenet161-8d451a50.pth"
_FIELD = "teacher.weights"  # the setting that names the file
_OLDEST_SAFE_TORCH = (2, 10)  # earlier ones can run code from a file in spite of weights_only
# Tensors outside the trunk: the ImageNet classifier, and the number of batches in the running averages.
_NOT_IN_TRUNK = re.compile(r"classifier\.(weight|bias)|.*\.num_batches_tracked")
# Prefixes of names: of the trunk, and of DataParallel around the network or around its trunk.
_PREFIXES = re.compile(r"(module\.)?(features\.(module\.)?)?")
_SAVE_STATE_DICT = "save the network's state_dict() alone"
# PyTorch's names of our leaves.
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_trunk(path: str, sha256: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a file of DenseNet weights into the variables of a trunk.

    Each leaf of the trunk gets one tensor, and each tensor of the file is used exactly once, except the classifier and
    the batch counts, which are ignored. Names may be those of older torchvision files (`denselayer1.norm.1.weight`) or
    of newer ones and timm (`denselayer1.norm1.weight`), with or without the prefixes `features.` and `module.` (from
    DataParallel). In a training checkpoint the weights may lie under `state_dict`, and nowhere else.

    Args:
        path: a `.pth` or `.safetensors` file.
        sha256: the file's SHA-256 in hexadecimal, or its first digits; "" skips the check.
        like: the trunk's variables, `{"params": ..., "batch_stats": ...}`, with the right shapes.

    Raises:
        UserError: if the file is missing, damaged, contains code, or belongs to another network.
    """
    file = find_file(path)
    _check_digest(file, sha256_of(path), sha256)
    return variables_of(_rename(file, _read(file)), like, lambda module: module.replace("_", "."), f"{_FIELD}={file}")


def variables_of(
    tensors: Mapping[str, np.ndarray], like: Mapping[str, Any], name_of: Callable[[str], str], source: str
) -> dict[str, Any]:
    """Returns the variables of a trunk whose layers lie directly in it; each tensor must be used exactly once.

    Args:
        tensors: by PyTorch's names, such as `conv0.weight`.
        like: has the shapes of the variables.
        name_of: PyTorch's name of a layer, from ours.
        source: of the tensors, for messages.

    Raises:
        UserError: if the tensors are of another network, or not finite.
    """
    left = dict(tensors)
    variables = jax.tree_util.tree_map_with_path(
        lambda where, leaf: _take(left, name_of(where[1].key), where[2].key, leaf, source), dict(like)
    )
    if left:
        more = console.count(len(left), "more tensor")
        raise UserError(f"{source}: weights of another network: it has {more}, {_some(left)}")
    return variables


def find_file(path: str) -> pathlib.Path:
    """Returns the path of a file of weights; raises UserError, which says where to get one, if it is missing."""
    try:
        file = pathlib.Path(path).expanduser()
        exists = file.is_file()
    except (OSError, RuntimeError, ValueError):  # an unknown home folder, or an impossible file name
        exists = False
    if not exists:
        raise UserError(f"{_FIELD}={path!r}: no such file; DenseNet-161's weights are at {DENSENET161_URL}")
    return file


def sha256_of(path: str) -> str:
    """Returns the SHA-256 of a file of weights in hexadecimal."""
    with open(find_file(path), "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check_digest(file: pathlib.Path, digest: str, expected: str) -> None:
    if not digest.startswith(expected.lower()):
        raise UserError(
            f"{_FIELD}={file}: not the published file: its SHA-256 is {digest}, not {expected}...; download it "
            f"again, or accept it with {_FIELD}_sha256={digest[:8]}"
        )


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads tensors by name, and never anything else."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(file)
        torch = _import_torch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
        tensors = _unwrap(file, content, torch.Tensor)
        return {str(name): tensor.detach().float().numpy() for name, tensor in tensors.items()}
    except UserError:
        raise
    except Exception as error:  # pickle, zip, OS and format errors have no common class
        reason, remedy = "damaged, or not a file of weights", "download it again"
        if "TorchScript" in str(error):
            reason, remedy = "a compiled module (TorchScript), which is not opened", _SAVE_STATE_DICT
        elif "weights_only" in str(error) or "Unsupported" in str(error):
            reason = "contains more than tensors, such as a whole module, and is not opened"
            remedy = f"download it again, or {_SAVE_STATE_DICT}"
        raise UserError(f"{_FIELD}={file}: {reason} ({type(error).__name__}): {remedy}") from error


def _unwrap(file: pathlib.Path, content: Any, tensor_type: type) -> Mapping[Any, Any]:
    """Returns the tensors by name, which are the whole content of a file or lie under `state_dict`."""
    if not isinstance(content, Mapping):
        raise UserError(f"{_FIELD}={file}: a {type(content).__name__}, not tensors by name: {_SAVE_STATE_DICT}")
    others = [name for name, value in content.items() if not isinstance(value, tensor_type)]
    if not others:
        return content
    if len(others) < len(content):
        raise UserError(f"{_FIELD}={file}: contains more than tensors ({_some(others)}): {_SAVE_STATE_DICT}")
    places = list(_places_of_weights(content, tensor_type))
    if places == [("state_dict",)]:
        return content["state_dict"]
    if not places:
        raise UserError(f"{_FIELD}={file}: contains no weights, only {_some(content)}: {_SAVE_STATE_DICT}")
    found = " and ".join(repr(".".join(place)) for place in places)
    keys = "".join(f"[{key!r}]" for key in places[0])
    raise UserError(
        f"{_FIELD}={file}: the weights lie under {found}: save them alone, with "
        f"torch.save(torch.load(FILE){keys}, NEW_FILE)"
    )


def _places_of_weights(content: Mapping[Any, Any], tensor_type: type) -> Iterator[tuple[str, ...]]:
    """Yields the keys that lead to each dictionary of nothing but tensors with names such as `a.b`."""
    for key, value in content.items():
        if not isinstance(value, Mapping) or not value:
            continue
        if all(isinstance(inner, tensor_type) for inner in value.values()):
            if any("." in str(name) for name in value):  # an optimizer's names have no dots
                yield (str(key),)
        else:
            for place in _places_of_weights(value, tensor_type):
                yield (str(key), *place)


def _import_torch() -> Any:
    try:
        version = importlib.metadata.version("torch")
        import torch
    except ImportError:
        raise UserError(
            f"{_FIELD}: .pth needs PyTorch (python -m pip install 'brittle-jax[weights]'); .safetensors does not"
        ) from None
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_SAFE_TORCH:
        raise UserError(f"{_FIELD}: PyTorch {version} opens .pth files unsafely: python -m pip install 'torch>=2.10'")
    return torch


def _rename(file: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the trunk's tensors under newer torchvision's names, without prefixes."""
    renamed: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        new_name = re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name[_PREFIXES.match(name).end() :])
        if _NOT_IN_TRUNK.fullmatch(new_name):
            continue
        if new_name in renamed:
            raise UserError(f"{_FIELD}={file}: contains {new_name} twice, under two names")
        renamed[new_name] = tensor
    shared, dot, _ = os.path.commonprefix(list(renamed)).rpartition(".")
    if dot and len(renamed) > 1:
        prefix = f"{shared}.".removesuffix("features.")  # which is allowed
        raise UserError(
            f"{_FIELD}={file}: all names begin with {prefix!r}: save the tensors without it, "
            f"as {{name.removeprefix({prefix!r}): tensor for name, tensor in weights.items()}}"
        )
    return renamed


def _take(tensors: dict[str, np.ndarray], layer: str, leaf: str, like: Any, source: str) -> np.ndarray:
    """Removes and returns the tensor of one leaf of the trunk."""
    name = f"{layer}.{_LEAVES[leaf]}"
    if name not in tensors:
        raise UserError(f"{source}: weights of another network: it has no {name}")
    tensor = tensors.pop(name)
    if leaf == "kernel" and tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)  # [out, in, height, width] to Flax's order
    if tensor.shape != like.shape:
        raise UserError(f"{source}: weights of another network: {name} is {tensor.shape}, not {like.shape}")
    if not np.isfinite(tensor).all() or (leaf == "var" and tensor.min() < 0):
        raise UserError(f"{source}: unusable weights: {name} has non-finite values or negative variances")
    return np.ascontiguousarray(tensor, np.float32)


def _some(names: Iterable[Any]) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
