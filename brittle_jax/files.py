"""Files as this project writes them: whole or not at all, in UTF-8, with digests that show what has changed since.

A manifest is a file that lists others with their SHA-256. It detects accidental change, not forgery: whoever changes a
file on purpose can change the manifest too.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from brittle_jax.errors import DISK_FULL, MISSING, DamagedError, UserError

MANIFEST = "manifest.json"
_REMEDIES = {  # if a file cannot be written, by what an OSError says
    "move away what is in its place": (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP),
    "make it writable, then run the same command again": (errno.EACCES, errno.EPERM, errno.EROFS),
    "its folder was moved or deleted: move it back, then run the same command again": (errno.ENOENT, errno.ESTALE),
    "check the disk and the connection to it, then run the same command again": (
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ENOTCONN,  # this one and the next: of a network's file system
        errno.ETIMEDOUT,
    ),
    "raise the limit of file sizes, see ulimit -f, then run the same command again": (errno.EFBIG,),
    "raise the limit of open files, see ulimit -n, then run the same command again": (errno.EMFILE,),
    "shorten its name": (errno.ENAMETOOLONG,),
}
_OTHER_REMEDY = "remove the cause, then run the same command again"


@contextlib.contextmanager
def explaining_write_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of writing to a path into those that `replacing` raises."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        remedy = next((text for text, numbers in _REMEDIES.items() if error.errno in numbers), _OTHER_REMEDY)
        raise UserError(f"{path} cannot be written ({error.strerror or error}): {remedy}") from error


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write to; it replaces `path` when the block ends without an error.

    Raises:
        UserError: if the file cannot be written, for example because a folder is in its place.
        OSError: if the disk is full.
    """
    partial = path.with_name(f"{path.name}.partial")
    with explaining_write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:  # a signal may interrupt the block
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, and the folders that it needs."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: pathlib.Path, content: Any, indent: int | None = 1) -> None:
    """Writes JSON as `to_json` gives it."""
    write_text(path, to_json(content, indent))


def to_json(content: Any, indent: int | None = 1) -> str:
    """Returns JSON with a newline at its end; numbers that are not finite become null."""
    return json.dumps(_jsonable(content), indent=indent, allow_nan=False) + "\n"


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_text(path: pathlib.Path) -> str:
    """Reads a text file in UTF-8.

    Raises:
        DamagedError: where the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DamagedError(path, MISSING) from error
    except OSError as error:
        raise DamagedError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise DamagedError(path, "not a text in UTF-8") from error


def check_regular(path: pathlib.Path, most_bytes: int) -> None:
    """Raises DamagedError unless a path is a regular file of at most so many bytes, and no link.

    Check with it what others may have made, before it is read.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError as error:
        raise DamagedError(path, MISSING) from error
    except (OSError, ValueError) as error:
        raise DamagedError(path, getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError(path, "a link" if stat.S_ISLNK(status.st_mode) else "not a regular file")
    if status.st_size > most_bytes:
        raise DamagedError(path, f"{status.st_size:,} bytes, more than {most_bytes:,}")


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
        DamagedError: where the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, f"not JSON: {' '.join(str(error).split())[:100]}") from error


def write_sealed(path: pathlib.Path, content: Any) -> None:
    """Writes JSON with its own digest beside it, so that `read_sealed` knows if it has changed."""
    write_json(path, {"content": content, "sha256": sha256_of_text(to_json(content))})


def read_sealed(path: pathlib.Path) -> Any:
    """Reads what `write_sealed` wrote.

    Raises:
        DamagedError: where the file is missing, or not as it was written.
    """
    sealed = read_json(path)
    if not isinstance(sealed, dict) or sealed.keys() != {"content", "sha256"}:
        raise DamagedError(path, "not as it was written")
    if sha256_of_text(to_json(sealed["content"])) != sealed["sha256"]:
        raise DamagedError(path, "changed")
    return sealed["content"]


def sha256_of_file(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_bytes(content: bytes | memoryview) -> str:
    """Returns the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_text(text: str) -> str:
    """Returns the SHA-256 of a text in UTF-8, in hexadecimal."""
    return sha256_of_bytes(text.encode())


def digests_of(folder: pathlib.Path, only: Collection[str] | None = None) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder, by its path there, sorted; links and hidden files do not count.

    Args:
        only: names of the files and folders directly inside the folder that count; None: all but a manifest.
    """
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in names if not name.startswith(".")]
        if pathlib.Path(parent) == folder:
            folders[:] = [name for name in folders if only is None or name in only]
            names = [name for name in names if name in only] if only is not None else names
            names = [name for name in names if name != MANIFEST]
        for name in names:
            file = pathlib.Path(parent, name)
            if not file.is_symlink():
                found[file.relative_to(folder).as_posix()] = sha256_of_file(file)
    return dict(sorted(found.items()))


def write_manifest(folder: pathlib.Path, digests: Mapping[str, str]) -> None:
    """Writes the manifest of files in a folder, as `digests_of` lists them."""
    write_text(folder / MANIFEST, _manifest_text(digests))


def _manifest_text(digests: Mapping[str, str]) -> str:
    return to_json({"format_version": 1, "sha256": digests})


def changes_since_manifest(folder: pathlib.Path) -> dict[str, str]:
    """Returns what has happened to the files that a folder's manifest lists: "missing", "changed" or "a link", by path.

    Nothing outside of the folder is read: links inside are not followed. Files that the manifest does not list do not
    count.

    Raises:
        DamagedError: where the manifest itself is missing or has changed.
    """
    return changes_of(folder, _read_manifest(folder))


def changes_of(folder: pathlib.Path, digests: Mapping[str, str]) -> dict[str, str]:
    """Returns what has happened to files in a folder, as `changes_since_manifest` does; `digests` are by path."""
    changes = {name: _change_of(folder, name, digest) for name, digest in digests.items()}
    return {name: change for name, change in changes.items() if change}


def is_as_listed(folder: pathlib.Path, name: str) -> bool:
    """Returns whether one file is as its folder's manifest lists it; False where the manifest is damaged, too."""
    try:
        listed = _read_manifest(folder)
    except DamagedError:
        return False
    return name in listed and not _change_of(folder, name, listed[name])


def _read_manifest(folder: pathlib.Path) -> dict[str, str]:
    """Returns the digests in a folder's manifest; raises DamagedError where it is missing or has changed."""
    manifest = folder / MANIFEST
    if manifest.is_symlink():
        raise DamagedError(manifest, "a link")
    text = read_text(manifest)
    content = read_json(manifest)
    listed = content.get("sha256") if isinstance(content, dict) else None
    # Written again it must be the same to the letter: a flipped bit anywhere in it is noticed too.
    if not isinstance(listed, dict) or _manifest_text(listed) != text:
        raise DamagedError(manifest, "not as it was written")
    return listed


def _change_of(folder: pathlib.Path, name: str, digest: str) -> str:
    """Returns what has happened to a listed file, empty where nothing has."""
    relative = pathlib.PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return "outside of the folder"
    file = folder / relative
    parents = [folder / parent for parent in relative.parents]
    try:
        if any(each.is_symlink() for each in (file, *parents[:-1])):
            return "a link"
        if not file.is_file():
            return MISSING
        return "" if sha256_of_file(file) == digest else "changed"
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return f"unreadable ({getattr(error, 'strerror', None) or error})"


def drop(path: pathlib.Path) -> None:
    """Deletes a file, or a folder with all that is in it, if it is there; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
