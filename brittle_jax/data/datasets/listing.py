"""What folders of picture files hold, before any file is opened: which files make which sample, of which class."""

import dataclasses
import itertools
import os
import pathlib

from brittle_jax import console
from brittle_jax.data.picture_file import SUFFIXES
from brittle_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
    """A sample, as files.

    Attributes:
        id: names it; for pictures of one's own the path below the folder.
        label: name of its class.
        files: one for each view; None where a view is missing.
        split: "train", "calibration" or "test", where the data set has splits of its own.
        group: samples of one group are never split apart; empty: it is a group of its own.
        boxes: of each thing that is marked, its name and its box in each view: top, left, bottom, right in pixels,
            zeros where it is not marked.
    """

    id: str
    label: str
    files: tuple[pathlib.Path | None, ...]
    split: str = ""
    group: str = ""
    boxes: tuple[tuple[str, tuple[tuple[int, int, int, int], ...]], ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds, before any file is opened.

    Attributes:
        name: of the data set.
        folder: out of which no file may lead.
        classes: names of the labels.
        views: names of the views of a sample; one empty name where it has no views.
        entries: the samples, sorted by id, whatever order they were listed in.

    Raises:
        UserError: where two samples have one id.
    """

    name: str
    folder: pathlib.Path
    classes: tuple[str, ...]
    views: tuple[str, ...]
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        entries = sorted(self.entries, key=lambda entry: entry.id)
        for one, other in itertools.pairwise(entries):
            if one.id == other.id:
                raise UserError(f"{self.title}: two samples have the id {one.id!r}")
        object.__setattr__(self, "entries", tuple(entries))

    @property
    def title(self) -> str:
        """The folder as text that can be printed, whatever bytes its name has."""
        return as_text(self.folder)


def find_pictures(folder: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the picture files below a folder, by their suffix, sorted; what is hidden does not count.

    Links to folders are not followed. Those that lead out of `root` are returned as if they were files, so that they
    are refused by name; inside of it the pictures are found anyway.

    Raises:
        OSError: where a folder cannot be listed.
    """
    found, others = [], []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        visible = [pathlib.Path(parent, name) for name in names if not name.startswith(".")]
        found += [file for file in visible if file.suffix.lower() in SUFFIXES]
        others += [file for file in visible if file.suffix.lower() not in SUFFIXES]
        links = [pathlib.Path(parent, name) for name in folders if os.path.islink(os.path.join(parent, name))]
        found += [link for link in links if not leads_inside(link, root)]
        folders[:] = [name for name in folders if not name.startswith(".")]
    if others:
        example = as_text(min(others).relative_to(root))
        console.warn(f"{as_text(folder)}: left out, {len(others)} whose names are not pictures', such as {example}")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def as_text(path: str | pathlib.Path) -> str:
    """Returns a path as text, whatever bytes its name has."""
    return os.fsencode(os.fspath(path)).decode("utf-8", "backslashreplace")


def id_of(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the path of a file below a folder, as text."""
    return as_text(file.relative_to(folder).as_posix())


def leads_inside(file: pathlib.Path, folder: pathlib.Path) -> bool:
    """Returns whether a file, links followed, lies below a folder."""
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # a link to itself, before Python 3.13; reading it will say so
        return True
    except (OSError, ValueError):  # a name that no file can have
        return False
