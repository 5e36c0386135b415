"""DenseNet weights as PyTorch's libraries publish them, `.pth` or `.safetensors`, put into the Flax module."""

import hashlib
import importlib.metadata
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from brittle_jax import console
from brittle_jax.errors import UserError

DENSENET161_URL = "https://download.pytorch.org/models/densenet161-8d451a50.pth"
_FIELD = "--config.teacher.weights"
_OLDEST_SAFE_TORCH = (2, 10)  # before it, files could run code in spite of weights_only
# What a file holds beside the trunk: the ImageNet classifier, and how many batches the averages have seen.
_NOT_OF_THE_TRUNK = re.compile(r"classifier\.(weight|bias)|.*\.num_batches_tracked")
# What may stand before a name: DataParallel's, around the network or around its trunk, and the trunk's own.
_PREFIXES = re.compile(r"(module\.)?(features\.(module\.)?)?")
_SAVE_THE_STATE = "save the network's state_dict() alone"
# Our name of a leaf to PyTorch's.
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_trunk(path: str, sha256: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a file of DenseNet weights into the shape of a trunk's variables.

    Every tensor of the file is used exactly once, but for the classifier's and the counts of batches, and every
    leaf of the trunk gets one. Names are those of older torchvision files (`denselayer1.norm.1.weight`), of newer ones
    and timm's (`denselayer1.norm1.weight`), with or without `features.` and DataParallel's `module.` before them. A
    training checkpoint that holds them under `state_dict` is read too; other wrappings are refused by name.

    Args:
        path: of a `.pth` or `.safetensors` file.
        sha256: of the file, or how it begins, in hexadecimal; empty: not checked.
        like: the trunk's variables, `{"params": ..., "batch_stats": ...}`, of the right shapes.

    Raises:
        UserError: for a file that is not there, is damaged, wants to run code, or is of another network.
    """
    file = find_file(path)
    _check_digest(file, sha256_of(path), sha256)
    tensors = _named_as_ours(file, _read(file))
    variables = jax.tree_util.tree_map_with_path(lambda where, leaf: _take(file, tensors, where, leaf), dict(like))
    if tensors:
        more = console.count(len(tensors), "more tensor")
        raise UserError(f"{_FIELD}={file} is of another network: it has {more}, {_some(tensors)}")
    return variables


def find_file(path: str) -> pathlib.Path:
    """Returns where a file of weights is; raises UserError, which says where to get one, if it is not there."""
    try:
        file = pathlib.Path(path).expanduser()
        is_there = file.is_file()
    except (OSError, RuntimeError, ValueError):  # a home that does not exist, a name that no file can have
        is_there = False
    if not is_there:
        raise UserError(
            f"{_FIELD}={path!r}: no such file; DenseNet-161's is at {DENSENET161_URL}, download it and name it here"
        )
    return file


def sha256_of(path: str) -> str:
    """Returns the SHA-256 of a file of weights, in hexadecimal."""
    with open(find_file(path), "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check_digest(file: pathlib.Path, digest: str, expected: str) -> None:
    if not digest.startswith(expected.lower()):
        raise UserError(
            f"{_FIELD}={file} is not the published file: its SHA-256 is {digest}, not {expected}...; download it "
            f"again, or, to take it as it is, set {_FIELD}_sha256={digest[:8]}"
        )


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all tensors by name, and never anything but tensors."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(file)
        torch = _import_torch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
        tensors = _unwrapped(file, content, torch.Tensor)
        return {str(name): tensor.detach().float().numpy() for name, tensor in tensors.items()}
    except UserError:
        raise
    except Exception as error:  # pickle, zip, OS and format errors: there is no common class
        reason, remedy = "is damaged, or not a file of weights", "download it again"
        if "TorchScript" in str(error):
            reason, remedy = "is a compiled module (TorchScript), and is not opened", _SAVE_THE_STATE
        elif "weights_only" in str(error) or "Unsupported" in str(error):
            reason = "holds more than tensors, such as a whole module, and is not opened"
            remedy = f"download it again, or {_SAVE_THE_STATE}"
        raise UserError(f"{_FIELD}={file} {reason} ({type(error).__name__}): {remedy}") from error


def _unwrapped(file: pathlib.Path, content: Any, tensor_type: type) -> Mapping[Any, Any]:
    """Returns the tensors by name that a file holds, by themselves or under `state_dict`."""
    if not isinstance(content, Mapping):
        raise UserError(f"{_FIELD}={file} holds a {type(content).__name__}, not tensors by name: {_SAVE_THE_STATE}")
    others = [name for name, value in content.items() if not isinstance(value, tensor_type)]
    if not others:
        return content
    if len(others) < len(content):
        raise UserError(f"{_FIELD}={file} holds other things beside its tensors, {_some(others)}: {_SAVE_THE_STATE}")
    places = list(_places_of_weights(content, tensor_type))
    if places == [("state_dict",)]:
        return content["state_dict"]
    if not places:
        raise UserError(f"{_FIELD}={file} holds no weights, but {_some(content)}: {_SAVE_THE_STATE}")
    found = " and ".join(repr(".".join(place)) for place in places)
    keys = "".join(f"[{key!r}]" for key in places[0])
    raise UserError(
        f"{_FIELD}={file}: the weights lie under {found}: save the right ones alone, such as "
        f"torch.save(torch.load(FILE){keys}, NEW_FILE)"
    )


def _places_of_weights(content: Mapping[Any, Any], tensor_type: type) -> Iterator[tuple[str, ...]]:
    """Yields where in nested dictionaries there are dictionaries of nothing but tensors, with names such as `a.b`."""
    for key, value in content.items():
        if not isinstance(value, Mapping) or not value:
            continue
        if all(isinstance(inner, tensor_type) for inner in value.values()):
            if any("." in str(name) for name in value):  # an optimizer's have none
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
            f"{_FIELD}: .pth needs PyTorch (python -m pip install 'brittle-jax[weights]'), .safetensors does not"
        ) from None
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_SAFE_TORCH:
        raise UserError(f"{_FIELD}: PyTorch {version} opens .pth files unsafely: python -m pip install 'torch>=2.10'")
    return torch


def _named_as_ours(file: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the trunk's tensors under the newer torchvision's names, without what stands before them."""
    renamed: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        ours = re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name[_PREFIXES.match(name).end() :])
        if _NOT_OF_THE_TRUNK.fullmatch(ours):
            continue
        if ours in renamed:
            raise UserError(f"{_FIELD}={file} has {ours} twice, under two names")
        renamed[ours] = tensor
    shared, dot, _ = os.path.commonprefix(list(renamed)).rpartition(".")
    if dot and len(renamed) > 1:
        prefix = f"{shared}.".removesuffix("features.")  # which may stay
        raise UserError(
            f"{_FIELD}={file}: all names begin with {prefix!r}: save the tensors without it, "
            f"as {{name.removeprefix({prefix!r}): tensor for name, tensor in weights.items()}}"
        )
    return renamed


def _take(file: pathlib.Path, tensors: dict[str, np.ndarray], where: tuple, like: Any) -> np.ndarray:
    """Takes the tensor of one leaf of the trunk out of what is left."""
    _, module, leaf = (key.key for key in where)
    name = f"{module.replace('_', '.')}.{_LEAVES[leaf]}"
    if name not in tensors:
        raise UserError(f"{_FIELD}={file} is of another network: it has no {name}")
    tensor = tensors.pop(name)
    if leaf == "kernel" and tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)  # [out, in, height, width] to Flax's order
    if tensor.shape != like.shape:
        raise UserError(f"{_FIELD}={file} is of another network: {name} gives {tensor.shape}, not {like.shape}")
    if not np.isfinite(tensor).all() or (leaf == "var" and tensor.min() < 0):
        raise UserError(f"{_FIELD}={file} cannot be used: {name} has values that are not finite, or negative variances")
    return np.ascontiguousarray(tensor, np.float32)


def _some(names: Iterable[Any]) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
