"""What an unfinished run keeps to go on from, beside its networks: works that go on, and what is finished."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from brittle_jax import checkpoint, console, files
from brittle_jax.errors import MISSING, DamagedError


class Progress:
    """The folder `progress` of a run, which is deleted when the run is finished.

    Attributes:
        shared: folder of works that are of no single configuration.
    """

    def __init__(self, run: pathlib.Path, made_from: dict[str, Any], check: Callable[[], None] = lambda: None):
        """Drops what is there of another run.

        Args:
            run: its folder.
            made_from: the settings and images of the run, ready for JSON.
            check: raises UserError if the folder has vanished; called before anything is written.
        """
        self._run, self._check = run, check
        self._folder = run / "progress" / files.sha256_of_text(files.to_json(made_from))[:16]
        for other in self._folder.parent.iterdir() if self._folder.parent.is_dir() else ():
            if other != self._folder or other.is_symlink():
                files.drop(other)
        self.shared = self._folder / "shared"

    def works_of(self, configuration: str) -> pathlib.Path:
        """Returns the folder of a configuration's own works."""
        return self._folder / "configurations" / configuration / "works"

    def remember(self, what: str, configuration: str | None, make: Callable[[], Any]) -> Any:
        """Returns what `make` returned, in this process or an earlier one of the same run.

        Args:
            what: such as "probe".
            configuration: that it belongs to; None: it is shared.
            make: returns something ready for JSON.
        """
        folder = self.shared if configuration is None else self.works_of(configuration)
        file = folder / f"{what}.json"
        if (known := _read(file)) is None:
            result = make()
            self._check()
            files.write_sealed(file, {"result": result})
            known = files.read_sealed(file)
        return known["result"]

    def entry(self, configuration: str, networks: Sequence[pathlib.Path]) -> dict[str, Any] | None:
        """Returns the entry of a finished configuration in results.json; None if one of its files is not sound.

        Args:
            networks: folders of the networks that it stands on.
        """
        if (finished := _read(self._file_of(configuration))) is None:
            return None
        try:
            for network in networks:
                checkpoint.check(network)
        except DamagedError as error:
            console.warn(f"{error.path} is damaged ({error.reason}): {configuration} is done again")
            return None
        if changes := files.changes_of(self._run, finished["files"]):
            name, change = next(iter(changes.items()))
            console.warn(f"{self._run / name} is damaged ({change}): {configuration} is done again")
            return None
        return finished["entry"]

    def finish(self, configuration: str, entry: dict[str, Any], written: Sequence[pathlib.Path]) -> dict[str, Any]:
        """Keeps the entry of a configuration, and drops its works; returns the entry as it will be read.

        Args:
            written: the files that belong to the entry.
        """
        digests = {file.relative_to(self._run).as_posix(): files.sha256_of_file(file) for file in written}
        file = self._file_of(configuration)
        self._check()
        files.write_sealed(file, {"entry": entry, "files": digests})
        files.drop(self.works_of(configuration))
        return files.read_sealed(file)["entry"]

    def _file_of(self, configuration: str) -> pathlib.Path:
        return self._folder / "configurations" / configuration / "finished.json"


def _read(file: pathlib.Path) -> Any:
    """Returns the content of a sealed file; None where there is none, or a damaged one, which is warned of."""
    try:
        return files.read_sealed(file)
    except DamagedError as error:
        if error.reason != MISSING:
            console.warn(f"{file} is damaged ({error.reason}): what it records is computed again")
        return None
