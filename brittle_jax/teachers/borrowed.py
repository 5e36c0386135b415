"""A teacher that another run has left."""

import dataclasses
import pathlib

from brittle_jax import checkpoint
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import DamagedError, UserError
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, Variables
from brittle_jax.teachers.kind import Description, Kind


@dataclasses.dataclass(frozen=True)
class Borrowed:
    """See `Kind`.

    Attributes:
        run: folder of a finished run, which has been found to have such a teacher.
        is_synthetic: whether that run was on synthetic data.
        lender: the kind of its teacher.
    """

    run: pathlib.Path
    is_synthetic: bool
    lender: Kind
    dataset: str = ""

    @property
    def is_shared(self) -> bool:
        """As there."""
        return self.lender.is_shared

    @property
    def keeps_head(self) -> bool:
        """As there."""
        return self.lender.keeps_head

    @property
    def learns_anomalies(self) -> bool:
        """As there."""
        return self.lender.learns_anomalies

    @property
    def readings(self) -> dict[str, str]:
        """As there."""
        return self.lender.readings

    def check(self, devices: DeviceGroup) -> None:
        """See `Kind`."""

    def check_dataset(self, dataset: Dataset) -> None:
        """See `Kind`."""
        self.lender.check_dataset(dataset)

    def obtain(
        self, drawn: Network, dataset: Dataset, lessons: Dataset | None, configuration: Configuration, loop: Loop
    ) -> tuple[Variables, Description]:
        """See `Kind`."""
        folders = [self.run / "checkpoints" / owner / "teacher" for owner in (configuration.name, "")]
        folder = next((each for each in folders if checkpoint.exists(each)), None)
        field = f"teacher.from_run={self.run}"
        if folder is None:
            raise UserError(f"{field} has no teacher for {configuration.name}: {folders[0]} is missing")
        try:
            variables, description = checkpoint.restore(folder, drawn.variables)
        except DamagedError as error:
            raise UserError(
                f"{field}: its teacher {error.path} is damaged ({error.reason}); restore it from a copy, or run that "
                "run's own command again, which makes it anew"
            ) from error
        if self.is_synthetic:
            description["synthetic_data"] = True
        return variables, {**description, "from_run": str(self.run)}
