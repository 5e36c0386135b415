"""Teachers with published weights, of ImageNet (Sec. 3.2): from a file, or from an installed package."""

import dataclasses

import jax

from brittle_jax import console
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.loop import Loop
from brittle_jax.models import lite_weights
from brittle_jax.models.network import ARCHITECTURES, Network, Variables, init_variables, replace_trunk, trunk_of
from brittle_jax.models.published_weights import load_trunk
from brittle_jax.teachers.kind import Description
from brittle_jax.teachers.random import Random

_LITE = "efficientnet_lite0"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A file of published weights.

    Attributes:
        path: of the file; empty: there is none.
        sha256: of the file, or how that begins; empty: any.
    """

    path: str
    sha256: str

    def check(self, network_name: str, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError if the file is missing or does not fit a network."""
        _check_network(network_name)
        self.trunk_like(_shapes(network_name, image_shape))

    def trunk_like(self, variables: Variables) -> Variables:
        """Reads the trunk of a network whose variables have these shapes."""
        return load_trunk(self.path, self.sha256, trunk_of(variables))


@dataclasses.dataclass(frozen=True)
class PackagedWeights:
    """ImageNet weights of EfficientNet-Lite0, from an installed package (see `lite_weights`)."""

    def check(self, network_name: str, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError if the package is missing or altered, or if this is another network."""
        if network_name != _LITE:
            raise UserError(f"network.name={network_name!r}: the teacher imagenet_lite needs network.name={_LITE}")
        self.trunk_like(_shapes(network_name, image_shape))

    def trunk_like(self, variables: Variables) -> Variables:
        """Reads the trunk of a network whose variables have these shapes."""
        return lite_weights.load_trunk(lite_weights.find_file(), trunk_of(variables))


def _shapes(network_name: str, image_shape: tuple[int, int, int]) -> Variables:
    module = ARCHITECTURES[network_name].with_output(0)
    return jax.eval_shape(lambda: init_variables(module, 0, image_shape))


def _check_network(name: str) -> None:
    if name == _LITE:
        raise UserError(f"network.name={name!r}: for its published weights set teacher.task=imagenet_lite")
    if not name.startswith("densenet"):
        raise UserError(f"network.name={name!r}: published weights exist for DenseNets only")


@dataclasses.dataclass(frozen=True)
class Published:
    """See `Kind`. Its head is drawn at random.

    Attributes:
        weights: of the trunk.
        network_name, image_shape: of the network that takes them.
        stand_in: None, or a random teacher that takes the place of missing weights in smoke runs.
    """

    weights: Weights | PackagedWeights
    network_name: str
    image_shape: tuple[int, int, int]
    stand_in: Random | None
    dataset: str = ""
    keeps_head: bool = False
    learns_anomalies: bool = False

    @property
    def _is_synthetic(self) -> bool:
        return self.stand_in is not None and not self.weights.path

    @property
    def is_shared(self) -> bool:
        """Unless a random teacher stands in."""
        return not self._is_synthetic or self.stand_in.is_shared

    @property
    def readings(self) -> dict[str, str]:
        """See `Kind`."""
        return {}

    def check(self, devices: DeviceGroup) -> None:
        """See `Kind`."""
        if self._is_synthetic:
            _check_network(self.network_name)
            self.stand_in.check(devices)
        else:
            self.weights.check(self.network_name, self.image_shape)

    def check_dataset(self, dataset: Dataset) -> None:
        """See `Kind`."""

    def obtain(
        self, drawn: Network, dataset: Dataset, lessons: Dataset | None, configuration: Configuration, loop: Loop
    ) -> tuple[Variables, Description]:
        """See `Kind`."""
        if self._is_synthetic:
            console.say("SYNTHETIC WEIGHTS: drawn at random in place of published ones, which smoke runs do without")
            variables, _ = self.stand_in.obtain(drawn, dataset, lessons, configuration, loop)
            return variables, {"synthetic_weights": True}
        return replace_trunk(drawn.variables, self.weights.trunk_like(drawn.variables)), {}
