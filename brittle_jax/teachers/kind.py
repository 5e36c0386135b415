"""What every kind of teacher offers."""

from typing import Any, Protocol

from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, Variables

Description = dict[str, Any]
"""What is known about a teacher, ready for JSON: the entry `teacher` in results.json."""


class Kind(Protocol):
    """One object says what a kind of teacher needs, which configurations share it, and how it is obtained."""

    dataset: str
    """Name of the data set that it learns from; empty: none."""

    is_shared: bool
    """Whether one teacher serves all configurations; not one that depends on which images are normal."""

    keeps_head: bool
    """Whether its head is trained, so that the probe takes its outputs and not its pooled features."""

    learns_anomalies: bool
    """Whether it learns from labelled anomalies of the anomaly-detection data (Sec. 3.3)."""

    readings: dict[str, str]
    """How it reads points that the paper leaves open, by name, for results.json."""

    def check(self, devices: DeviceGroup) -> None:
        """Raises UserError for whatever is known to be wrong before any data set is read."""

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if it cannot be used with the anomaly-detection data."""

    def obtain(
        self, drawn: Network, dataset: Dataset, lessons: Dataset | None, configuration: Configuration, loop: Loop
    ) -> tuple[Variables, Description]:
        """Returns a teacher's weights, and what is known about it. All that takes long runs in the loop.

        Args:
            drawn: the architecture, with weights drawn at random.
            dataset: the anomaly-detection data.
            lessons: the data set that it learns from, if any.
        """
