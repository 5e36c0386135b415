"""Networks that map images to representations: a trunk with a head, and a module with its weights."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.errors import UserError
from brittle_jax.models.convnet import SmallConvNet
from brittle_jax.models.densenet import DenseNet
from brittle_jax.models.efficientnet import EfficientNetLite
from brittle_jax.models.layers import LinearHead, ProjectionHead
from brittle_jax.models.resnet import SmallResNet, SmallResNetDecoder
from brittle_jax.models.trunk import EXTREMES, PLACES, Pooled
from brittle_jax.precision import in_float32
from brittle_jax.text import nearest, split_list

Variables = Mapping[str, Any]
"""`params` and `batch_stats` of a module, as `module.apply` takes them."""


class Representation(nn.Module):
    """Images to representations: normalisation, trunk, head.

    Attributes:
        trunk: [N, H, W, C] to pooled features [N, F].
        head: pooled features to outputs; None if the pooled features are the output.
        mean, std: of each channel, on the scale of the images. They normalise the trunk's inputs.
        dtype: of the trunk's inputs. The trunk computes in it if its weights have the same type; the head computes in
            the type of the images. None: the type of the images for both.
        levels: stages of the trunk that take the place of its pooled features (see `Trunk`); empty: none.
    """

    trunk: nn.Module
    head: nn.Module | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: jnp.dtype | None = None
    levels: tuple[str, ...] = ()

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [N, H, W, C] float32 in [0, 1] to [N, F]."""
        mean, std = self._statistics()
        normalised = (images - mean) / std
        options = {"levels": self.levels} if self.levels else {}  # which a trunk of your own need not know
        pooled = self.trunk(jnp.asarray(normalised, self.dtype), train=train, **options).astype(normalised.dtype)
        return self.outputs(pooled)

    def outputs(self, pooled: jax.Array) -> jax.Array:
        """Maps pooled features to outputs [N, F]."""
        return pooled if self.head is None else self.head(pooled)

    def _statistics(self) -> list[jax.Array]:
        return [jnp.asarray(values).reshape(1, 1, 1, -1) for values in (self.mean, self.std)]


class Autoencoder(Representation, kw_only=True):
    """Images to codes and back. The code is the representation, and the decoder is discarded (Sec. A.1).

    Attributes:
        decoder: codes [N, F] to normalised images, as the trunk takes them.
    """

    decoder: nn.Module

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [N, H, W, C] float32 in [0, 1] to reconstructions, on the same scale but unbounded."""
        mean, std = self._statistics()
        return self.decoder(super().__call__(images, train), train) * std + mean


class Network(flax.struct.PyTreeNode):
    """A module with its weights: `network(images) -> [N, F]`, in evaluation mode.

    It is a pytree, so it can be an argument of a jitted function. Networks with equal modules share a compilation.
    """

    module: nn.Module = flax.struct.field(pytree_node=False)
    variables: Variables

    @in_float32
    def __call__(self, images: jax.Array) -> jax.Array:
        return self.module.apply(self.variables, images)

    @in_float32
    def places(self, images: jax.Array) -> tuple[Pooled, ...]:
        """Returns what the network pools over the picture, for each level, or for the end.

        The averages of what is pooled, joined along the channels, are what `outputs` takes. Empty for a trunk of your
        own that does not pool by `Trunk`.
        """
        _, state = self.module.apply(self.variables, images, mutable=[PLACES])
        return state.get(PLACES, {}).get("trunk", {}).get("pooled", ())

    @in_float32
    def outputs(self, pooled: jax.Array) -> jax.Array:
        """Maps pooled features to outputs [N, F]."""
        return self.module.apply(self.variables, pooled, method="outputs")

    def num_features(self, image_shape: tuple[int, int, int]) -> int:
        """Returns F for images of shape (H, W, 3), without running the network."""
        return jax.eval_shape(self, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)).shape[-1]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A trunk with the head and the normalisation that belong to it."""

    trunk: nn.Module
    classifier_bias: bool
    classifier_scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    decoder: Callable[[tuple[int, int, int]], nn.Module] | None = None  # from the shape of an image

    def with_output(self, output_features: int, levels: tuple[str, ...] = ()) -> Representation:
        """Returns a teacher or student: a linear head without bias, or no head for 0 features (Sec. 3.2).

        Args:
            levels: as in `Representation`.
        """
        return self._with_head(LinearHead(output_features) if output_features else None, levels)

    def with_classifier(self, num_classes: int) -> Representation:
        """Returns a network for an auxiliary task with `num_classes` classes."""
        return self._with_head(LinearHead(num_classes, self.classifier_bias, self.classifier_scale, zero_bias=True))

    def with_projection(self, num_features: int) -> Representation:
        """Returns a network for contrastive learning, with a `ProjectionHead` (SimCLR, Sec. 4.2)."""
        return self._with_head(ProjectionHead(num_features))

    def with_decoder(self, num_features: int, image_shape: tuple[int, int, int]) -> Autoencoder:
        """Returns an autoencoder for images of shape (H, W, 3), with `num_features` features in a code."""
        head, decoder = LinearHead(num_features), self.decoder(image_shape)
        return Autoencoder(self.trunk, head, self.mean, self.std, decoder=decoder)

    @property
    def initialiser(self) -> str:
        """How weights are drawn, in words."""
        return _INITIALISERS[getattr(self.trunk, "initialiser", None)]

    @property
    def level_names(self) -> tuple[str, ...]:
        """Stages that can be levels, in their order. A trunk of your own may have none."""
        return getattr(self.trunk, "level_names", ())

    def _with_head(self, head: nn.Module | None, levels: tuple[str, ...] = ()) -> Representation:
        return Representation(self.trunk, head, self.mean, self.std, levels=levels)


# Channel means and standard deviations: of CIFAR-10 from cifar10-fast, of ImageNet from torchvision; EfficientNet-Lite
# takes pixels in [-1, 1].
_CIFAR10 = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_MINUS_ONE_TO_ONE = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_RESNET_HEAD = {"classifier_bias": False, "classifier_scale": 0.125}
_DEFAULT_HEAD = {"classifier_bias": True, "classifier_scale": 1.0}

# Descriptions of a trunk's `initialiser`. A trunk of your own may have none.
_INITIALISERS = {
    "uniform": "uniform in +-1/sqrt(fan_in)",
    "he_normal": "convolutions He normal, of variance 2/fan_in, heads uniform in +-1/sqrt(fan_in)",
    "he_normal_fan_out": "convolutions normal, of variance 2/fan_out, heads uniform in +-1/sqrt(fan_in)",
    None: "the network's own, heads uniform in +-1/sqrt(fan_in)",
}

_TINY = (8, 16, 32, 64)

# Keys are values of the setting network.name. To add your own, with any Linen trunk that maps images [N, H, W, C] to
# features [N, F], write in your config file: ARCHITECTURES["mine"] = Architecture(...).
ARCHITECTURES = {
    "small_resnet": Architecture(SmallResNet(), **_RESNET_HEAD, **_CIFAR10, decoder=SmallResNetDecoder),
    "small_resnet_tiny": Architecture(
        SmallResNet(widths=_TINY),
        **_RESNET_HEAD,
        **_CIFAR10,
        decoder=functools.partial(SmallResNetDecoder, widths=_TINY),
    ),
    "densenet161": Architecture(DenseNet(), **_DEFAULT_HEAD, **_IMAGENET),
    "densenet_tiny": Architecture(
        DenseNet(growth=8, block_sizes=(2, 2, 2, 2), initial_features=16), **_DEFAULT_HEAD, **_IMAGENET
    ),
    "efficientnet_lite0": Architecture(EfficientNetLite(), **_DEFAULT_HEAD, **_MINUS_ONE_TO_ONE),
    "small_convnet": Architecture(SmallConvNet(), **_DEFAULT_HEAD, **_MINUS_ONE_TO_ONE),
}


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Which networks teacher and student are.

    Attributes:
        name: of the teacher's architecture.
        output_features: of the linear head; 0: the pooled features are the output.
        training_dtype: of the trunk in training, such as "bfloat16".
        levels: comma-separated stages that take the place of the pooled features (see `Trunk`); empty: none.
        student: the student's architecture; empty: the student is the teacher's twin.
    """

    name: str
    output_features: int
    training_dtype: str = "float32"
    levels: str = ""
    student: str = ""

    @property
    def architecture(self) -> Architecture:
        """The architecture of the teacher."""
        return ARCHITECTURES[self.name]

    @property
    def student_architecture(self) -> Architecture:
        """The architecture of the student."""
        return ARCHITECTURES[self.student or self.name]

    @property
    def module(self) -> Representation:
        """What the teacher is."""
        return self.architecture.with_output(self.output_features, tuple(split_list(self.levels)))

    @property
    def student_module(self) -> Representation:
        """What the student is: the teacher's twin, or `student` with as many outputs as the teacher has."""
        # The number is the same for images of any size.
        return self.student_with(shapes_of(self.module, (32, 32, 3)).num_features) if self.student else self.module

    def student_with(self, num_features: int) -> Representation:
        """Returns `student_module` where the number of the teacher's outputs is known: no network is traced."""
        return self.student_architecture.with_output(num_features) if self.student else self.module


def check_network(network: NetworkSettings) -> None:
    """Raises UserError if teacher or student name no architecture, or a level that it lacks."""
    check_architecture(network.name, network.output_features, needs_decoder=False, levels=network.levels)
    if network.student:
        _check_name("network.student", network.student)


def check_architecture(name: str, output_features: int, *, needs_decoder: bool, levels: str = "") -> None:
    """Raises UserError if no architecture has this name, or if it lacks a decoder that is needed, or a level."""
    _check_name("network.name", name)
    if needs_decoder and ARCHITECTURES[name].decoder is None:
        known = ", ".join(known for known, each in ARCHITECTURES.items() if each.decoder is not None)
        raise UserError(f"network.name={name!r} has no decoder, which this teacher needs: use one of {known}")
    if needs_decoder and not output_features:
        raise UserError("network.output_features=0: set the width of this teacher's bottleneck")
    if needs_decoder and levels:
        raise UserError(
            f"network.levels={levels!r}: the representation of this teacher is its bottleneck: leave it empty"
        )
    _check_levels(name, levels)


def _check_name(field: str, name: str) -> None:
    if name not in ARCHITECTURES:
        hint = nearest(name, list(ARCHITECTURES))
        raise UserError(f"{field}={name!r} is not one of {', '.join(map(repr, ARCHITECTURES))}{hint}")


def _check_levels(name: str, levels: str) -> None:
    known, chosen = ARCHITECTURES[name].level_names, split_list(levels)
    if chosen and not known:
        raise UserError(f"network.levels={levels!r}: {name} has no levels: leave it empty")
    for level in chosen:
        stage = level.removesuffix(EXTREMES)
        if stage not in known:
            missing, hint = stage, nearest(stage, known)
            if not stage.isidentifier():  # such as "stage1:maximum"
                missing, hint = repr(level), f" (extremes are written {known[0]}{EXTREMES})"
            has = f"it has {', '.join(known)}{hint}"
            raise UserError(f"network.levels={levels!r}: {name} has no {missing}; {has}")
        if chosen.count(level) > 1:
            raise UserError(f"network.levels={levels!r} names {level} twice: name each level once")


def computing_in(module: Representation, dtype: str) -> Representation:
    """Returns a network whose trunk computes in a type such as "bfloat16", given weights of that type."""
    return module if dtype == "float32" else module.clone(dtype=jnp.dtype(dtype))


def init_variables(module: nn.Module, seed: int, image_shape: tuple[int, int, int]) -> Variables:
    """Draws a module's weights: `params`, and `batch_stats` with means 0 and variances 1."""
    return dict(_init(module, jax.random.key(seed), image_shape))


class Shapes(NamedTuple):
    """What is known about a network without running it."""

    num_features: int  # F
    variables: Any  # shapes and types, as `init_variables` draws them


@functools.cache
def shapes_of(module: Representation, image_shape: tuple[int, int, int]) -> Shapes:
    """Traces a network, once, for images of shape (H, W, 3)."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    outputs, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), images)
    return Shapes(outputs.shape[-1], dict(variables))


def replace_trunk(variables: Variables, trunk: Variables) -> Variables:
    """Returns a network's variables with those of its trunk replaced; the head stays."""
    return {kind: {**tree, "trunk": trunk[kind]} for kind, tree in variables.items()}


def trunk_of(variables: Variables) -> Variables:
    """Returns the variables of a network's trunk."""
    return {kind: tree["trunk"] for kind, tree in variables.items()}


def digest_of(tree: Any) -> str:
    """Returns the SHA-256 of weights in hexadecimal. It is equal only for weights equal bit for bit.

    Args:
        tree: any pytree of arrays, such as a network's variables, or several networks.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


@functools.partial(jax.jit, static_argnames=("module", "image_shape"))
def _init(module: nn.Module, key: jax.Array, image_shape: tuple[int, int, int]) -> Variables:
    return module.init(key, jnp.zeros((1, *image_shape)))
