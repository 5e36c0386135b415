"""What folders of picture files hold, before any file is opened: which files make which sample of which class."""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

from brittle_jax import console
from brittle_jax.data.picture_file import SUFFIXES
from brittle_jax.errors import UserError

NORMAL = "normal"  # name of the class of normal pictures
SPLITS = ("train", "calibration", "test")
_MOST_FOLDERS, _MOST_CLASSES, _MOST_NAMES = 3, 30, 20  # to show
# What normal pictures and masks, and their folders, are often called, in upper or lower case.
_NORMAL_NAMES = ("good", "normal", "normals", "ok")
_MASK_FOLDER, _MASK_WORDS = "ground_truth", ("groundtruth", "mask", "masks", "truth")
_NEGATIONS = ("ab", "no", "non", "not")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A sample, as files.

    Attributes:
        id: its name; for your own images the path below the folder.
        label: name of its class.
        files: one for each view; None if a view is missing.
        split: "train", "calibration" or "test"; empty if the data set has no split of its own.
        group: samples of one group are never split apart; empty: the sample is a group of its own.
        boxes: of each marked thing, its name and its box in each view: top, left, bottom, right in pixels; zeros in a
            view without a mark.
        mask: a picture that is not 0 where the sample is anomalous; None if there is none.
    """

    id: str
    label: str
    files: tuple[pathlib.Path | None, ...]
    split: str = ""
    group: str = ""
    boxes: tuple[tuple[str, tuple[tuple[int, int, int, int], ...]], ...] = ()
    mask: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds, before any file is opened.

    Attributes:
        name: of the data set or of its layout.
        folder: no file may lead out of it, except through links to folders that lie directly in it.
        classes: names of the labels.
        views: names of the views of a sample; a single empty name if there is only one view.
        entries: the samples, sorted by id, whatever order they were listed in.

    Raises:
        UserError: if two samples have the same id.
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
        """The folder as printable text, whatever bytes its name has."""
        return as_text(self.folder)

    def refusal_of(self, file: pathlib.Path) -> str | None:
        """Returns why a file must not be read: it leads out of the folder, or nowhere. None if it may be read."""
        return _refusal(file, self.folder, self._roots)

    def has_refused_link(self, entry: Entry) -> bool:
        """Returns whether a file of an entry is itself a link that must not be read, and so no picture."""
        return any(file and os.path.islink(file) and self.refusal_of(file) for file in entry.files)

    @functools.cached_property
    def _roots(self) -> tuple[pathlib.Path, ...]:
        return _roots_of(self.folder)


def find_pictures(folder: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the picture files below a folder, recognised by their suffix, sorted, without hidden ones.

    Links that `find_files` yields as if they were files are among them, so that each is refused by name.

    Raises:
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    found, others = [], []
    for file in find_files(folder, root):
        is_picture = file.suffix.lower() in SUFFIXES or links_to_folder(file)
        (found if is_picture else others).append(file)
    one, many = "file whose name is not that of a picture", "files whose names are not those of pictures"
    warn_of_left_out(folder, others, root, one, many)
    return sorted(found)


def warn_of_left_out(
    folder: pathlib.Path, files: Sequence[pathlib.Path], root: pathlib.Path, one: str, many: str
) -> None:
    """Says how many files of a folder are left out, if any, and names the first, relative to `root`.

    Args:
        one: what a single file is.
        many: what several files are.
    """
    if files:
        what = f"1 {one}, " if len(files) == 1 else f"{len(files):,} {many}, such as "
        console.warn(f"{as_text(folder)}: left out {what}{id_of(min(files), root)}")


def without_masks(files: Sequence[pathlib.Path], root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files below `root` whose names are not those of masks; says how many masks are of no picture."""
    masks = {file for file in files if _is_mask(file.relative_to(root))}
    pictures = [file for file in files if file not in masks]
    if masks:
        of_pictures = {mask_of(file, root, root) for file in pictures}
        warn_of_left_out(root, sorted(masks - of_pictures), root, "mask", "masks")
    return pictures


def mask_of(file: pathlib.Path, pictures: pathlib.Path, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the mask of a picture KIND/NAME below a folder, which is ground_truth/KIND/NAME_mask.png below `root`.

    None if there is no such file.
    """
    mask = root / _MASK_FOLDER / file.relative_to(pictures).with_name(f"{file.stem}_mask.png")
    return mask if os.path.isfile(mask) else None


def _is_mask(file: pathlib.Path) -> bool:
    return file.stem.lower().endswith("_mask") or _MASK_FOLDER in [part.lower() for part in file.parts[:-1]]


def is_called_normal(name: str) -> bool:
    """Returns whether a name means normal and nothing else, in upper or lower case."""
    return name.lower() in _NORMAL_NAMES


def folders_called_normal(files: Iterable[pathlib.Path], root: pathlib.Path) -> list[str]:
    """Returns the folders below `root` that hold some of the files and whose names mean normal."""
    called = set()
    for folder in {file.relative_to(root).parent for file in files}:
        depth = next((depth for depth, name in enumerate(folder.parts) if is_called_normal(name)), None)
        if depth is not None:
            called.add(os.path.join(*folder.parts[: depth + 1]))
    return sorted(called)


def warn_of_kinds(title: str, kinds: Sequence[str]) -> None:
    """Warns of kinds of anomaly whose names have several words, one of which means normal pictures or masks."""
    for meaning, words in ((NORMAL, _NORMAL_NAMES), ("mask", _MASK_WORDS)):
        if named := [kind for kind in kinds if _has_word(kind, words)]:
            claim = "counts as a kind of anomaly, though its name says"
            if len(named) > 1:
                claim = "count as kinds of anomaly, though their names say"
            console.warn(f"{title}: {shorten(named)} {claim} {meaning}")


def _has_word(name: str, words: Sequence[str]) -> bool:
    """Returns whether a name has one of the words without a negation before it; any non-letter separates words."""
    of_name = re.findall(r"[^\W\d_]+", name.lower())
    return any(word in words and before not in _NEGATIONS for before, word in itertools.pairwise(["", *of_name]))


def shorten(names: Sequence[str]) -> str:
    """Returns the first names as text, and how many more there are."""
    more = [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([as_text(name) for name in names[:_MOST_NAMES]] + more)


def find_files(folder: pathlib.Path, root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files below a folder, which lies in `root` or is it, without hidden ones.

    A link to a folder elsewhere is followed if it lies directly in `root`, where a user put it; further below it is
    yielded as if it were a file. Other links to folders are ignored: what they lead to is found anyway.

    Raises:
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    roots = _roots_of(root)
    if _refusal(folder, root, roots):
        yield folder
        return
    for parent, folders, names in os.walk(folder, onerror=_raise):
        here = pathlib.Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (here / name for name in names if not name.startswith("."))
        for link in (here / name for name in folders if os.path.islink(here / name)):
            is_outside = not link.resolve().is_relative_to(roots[0])
            if _refusal(link, root, roots) or (is_outside and here == root):
                yield from find_files(link, root)


def _raise(error: OSError) -> None:
    raise error


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders directly in a folder, with links to folders or nowhere, sorted, without hidden ones.

    Raises:
        OSError: if the folder cannot be listed; its `filename` is that folder.
    """
    visible = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    is_folder = [entry.is_dir(follow_symlinks=False) or links_to_folder(entry.path) for entry in visible]
    return sorted(folder / entry.name for entry in itertools.compress(visible, is_folder))


def links_to_folder(path: str | pathlib.Path) -> bool:
    """Returns whether a path is a link to a folder, or a link to nowhere with a folder's name."""
    is_lost = not pathlib.Path(path).suffix and not os.path.exists(path)
    return os.path.islink(path) and (is_lost or os.path.isdir(path))


def as_text(path: str | pathlib.Path) -> str:
    """Returns a path as printable text, whatever bytes its name has."""
    return os.fsencode(os.fspath(path)).decode("utf-8", "backslashreplace")


def id_of(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the path of a file below a folder, as text."""
    return as_text(file.relative_to(folder).as_posix())


def _roots_of(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Returns the folders that files may lie in: `folder`, and the targets of links directly in it."""
    here = folder.resolve()
    links = [entry.path for entry in os.scandir(folder) if entry.is_symlink() and os.path.isdir(entry.path)]
    targets = [pathlib.Path(link).resolve() for link in links]
    return (here, *(target for target in targets if not here.is_relative_to(target)))


def _refusal(file: pathlib.Path, folder: pathlib.Path, roots: Sequence[pathlib.Path]) -> str | None:
    """Returns why a file of a folder must not be read, if only what lies in `roots` may be; None if it may."""
    try:
        os.stat(file)
    except FileNotFoundError:
        if os.path.islink(file):
            return "a link to nowhere"
    except (OSError, ValueError):  # reading it will say so
        pass
    try:
        target = file.resolve()
    except RuntimeError:  # a link to itself, before Python 3.13; reading it will say so
        return None
    except (OSError, ValueError):
        return "a name that no file can have"
    if any(target.is_relative_to(root) for root in roots):
        return None
    is_inside = pathlib.Path(os.path.abspath(file)).is_relative_to(os.path.abspath(folder))
    return "a link that leads out of the folder" if is_inside else "leads out of the folder"


def announce(listing: Listing, layout: str) -> None:
    """Says which layout a folder has; and of each class, how many samples there are and in which folders.

    Links that will be refused do not count.
    """
    what = "picture" if len(listing.views) == 1 else "parcel"
    counted = [entry for entry in listing.entries if not listing.has_refused_link(entry)]
    console.say(f"{listing.title}: {console.count(len(counted), what)}, {layout}")
    of_class = collections.defaultdict(list)
    for entry in counted:
        of_class[entry.label].append(entry)
    rows = []
    for name in listing.classes:
        entries = of_class[name]
        number, unit = console.count(len(entries), what).split()
        rows.append((name, number, unit, *_where(listing, entries)))
    shown = rows[:_MOST_CLASSES]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for name, number, unit, splits, folders in shown:
        columns = [f"{name:{widths[0]}}", f"{number:>{widths[1]}} {unit:{widths[2]}}", f"{splits:{widths[3]}}", folders]
        console.say(f"  {'  '.join(filter(None, columns))}".rstrip())
    if len(rows) > len(shown):
        console.say(f"  and {len(rows) - len(shown)} more kinds")


def _where(listing: Listing, entries: Sequence[Entry]) -> tuple[str, str]:
    """Returns how many samples each given split has, and the folders that hold the samples."""
    of_split = collections.defaultdict(list)
    for entry in entries:
        of_split[entry.split].append(entry)
    splits = [f"{len(of_split[split])} {split}" for split in SPLITS if split in of_split]
    folders = [folder for split in ("", *SPLITS) for folder in _folders_of(listing, of_split.get(split, ()))]
    folders = list(dict.fromkeys(folders))
    more = [f"and {len(folders) - _MOST_FOLDERS} more"] if len(folders) > _MOST_FOLDERS else []
    return ", ".join(splits), ", ".join(folders[:_MOST_FOLDERS] + more)


def _folders_of(listing: Listing, entries: Sequence[Entry]) -> list[str]:
    """Returns the deepest folder that holds all files of some samples; if that is `folder`, the folders in it."""
    parents = {file.parent for entry in entries for file in entry.files if file}
    below = {os.path.relpath(parent, listing.folder) for parent in parents}
    together = os.path.commonpath(below) if below else ""
    if together in ("", os.curdir):
        return [f"{as_text(folder)}/" for folder in sorted({folder.split(os.sep)[0] for folder in below})]
    return [f"{as_text(together)}/"]
