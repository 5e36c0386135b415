"""Calibration images of a detector: their scores, which of them belong together, and what their files are like."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brittle_jax import files, results
from brittle_jax.errors import DamagedError
from brittle_jax.evaluate import conformal

FORMAT_VERSION = 1
OWN, LATER = "calibration", "recalibration"  # folders of a run: what it held back itself, and what came after it
_MOST_BYTES = 2**28  # of a file that is read: a million images
_PROPERTIES = ("height", "width", "bits", "is_grey")


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Calibration:
    """C normal samples that neither trained nor tested the detector.

    Attributes:
        ids: [C] names.
        scores: [C] each, by detector.
        groups: [C] str; samples of one group, such as pictures of one object, count as one.
        properties: [K, 4] int, of all picture files: height and width in pixels, bit depth, whether grey; None if
            they are not known.
        made_with: the digest of the detector that gave the scores; empty if it was the run's own.
    """

    ids: Sequence[str]
    scores: Mapping[str, np.ndarray]
    groups: np.ndarray
    properties: np.ndarray | None = None
    made_with: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_groups(self) -> int:
        """How many samples count."""
        return len(np.unique(self.groups))

    def scores_of(self, detector: str) -> np.ndarray:
        """Returns the scores [G] that p-values and thresholds come from: the largest of each group."""
        return conformal.group_scores(self.scores[detector], self.groups)


def write(folder: pathlib.Path, configuration: str, calibration: Calibration) -> None:
    """Writes CONFIGURATION.csv, with the scores, and CONFIGURATION.json, with all else, to a folder."""
    table, about = folder / f"{configuration}.csv", folder / f"{configuration}.json"
    files.drop(about)  # it must never stand beside other scores
    results.write_scores(table, calibration.ids, np.zeros(len(calibration), int), calibration.scores)
    properties = calibration.properties
    content = {
        "format_version": FORMAT_VERSION,
        "groups": calibration.groups,
        "files": None if properties is None else dict(zip(_PROPERTIES, properties.T.tolist(), strict=True)),
        "made_with": calibration.made_with,
        "scores_sha256": files.sha256_of_file(table),
    }
    files.write_json(about, content, indent=None)


def read(folder: pathlib.Path, configuration: str) -> Calibration | None:
    """Reads what `write` wrote; None if there is nothing. Earlier versions wrote scores alone.

    Raises:
        DamagedError: where a file is too large, a link, or not as it was written.
    """
    table, about = folder / f"{configuration}.csv", folder / f"{configuration}.json"
    if not table.exists():
        return None
    files.check_regular(table, _MOST_BYTES)
    samples = results.read_scores(table)
    if set(samples.scores) != set(results.DETECTORS):
        raise DamagedError(table, "it does not have the scores of all detectors")
    if not about.exists():
        return Calibration(samples.ids, samples.scores, np.asarray(samples.ids))
    files.check_regular(about, _MOST_BYTES)
    content = files.read_json(about)
    try:
        if content["scores_sha256"] != files.sha256_of_file(table):
            raise DamagedError(table, "changed")
        return Calibration(samples.ids, samples.scores, *_read_about(content, len(samples.ids)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(about, f"not as it was written, {type(error).__name__}: {error}") from error


def _read_about(content: Any, num_samples: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    if content["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {content['format_version']!r}, not {FORMAT_VERSION}")
    groups = np.array(content["groups"], str)
    if groups.shape != (num_samples,):
        raise ValueError(f"groups of {groups.shape} samples, not of {num_samples}")
    columns, made_with = content["files"], content["made_with"]
    properties = None if columns is None else np.array([columns[name] for name in _PROPERTIES], int).T
    return groups, properties, str(made_with)


def joined_groups(groups: Sequence[str], digests: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns the groups [C] of samples once those that share a picture are put together.

    Args:
        groups: [C], as they are named.
        digests: [C][V], of the pictures of each sample.

    Returns:
        [C] str: the name of the group of the first sample in it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes: dict[tuple[str, str], int] = {}
    edges = []
    for sample, (group, of_sample) in enumerate(zip(groups, digests, strict=True)):
        for node in (("group", group), *(("digest", digest) for digest in of_sample)):
            edges.append((sample, len(groups) + nodes.setdefault(node, len(nodes))))
    size = len(groups) + len(nodes)
    first, second = np.array(edges, int).reshape(-1, 2).T
    _, parts = connected_components(coo_array((np.ones(len(first)), (first, second)), (size, size)), directed=False)
    names: dict[int, str] = {}
    return np.array([names.setdefault(int(part), group) for part, group in zip(parts, groups, strict=False)], str)


def is_grey(images: np.ndarray) -> bool:
    """Returns whether images [P, H, W, 3] have no colour."""
    return bool((images == images[..., :1]).all())


def unlike(calibration: np.ndarray, scored: np.ndarray) -> list[str]:
    """Says in what files of pictures that are scored differ from those of the calibration images.

    Args:
        calibration: [K, 4], as `Calibration.properties`.
        scored: [M, 4] likewise.

    Returns:
        A phrase for each difference that more than one picture in twenty has.
    """
    if not len(calibration) or not len(scored):
        return []
    depths = [f"{bits} bits" for bits in np.unique(calibration[:, 2])]
    modes = {(0,): "colour", (1,): "grey", (0, 1): "colour and grey"}[tuple(np.unique(calibration[:, 3]).tolist())]
    lowest, highest = calibration[:, :2].min(axis=0), calibration[:, :2].max(axis=0)
    sizes = " to ".join(f"{width} x {height} pixels" for height, width in np.unique([lowest, highest], axis=0))
    is_other = {
        f"another bit depth than {' or '.join(depths)}": ~np.isin(scored[:, 2], calibration[:, 2]),
        f"other colours than {modes}": ~np.isin(scored[:, 3], calibration[:, 3]),
        f"another size than {sizes}": ((scored[:, :2] < lowest) | (scored[:, :2] > highest)).any(axis=1),
    }
    return [
        f"{what} ({int(differs.sum())} of {len(scored)})" for what, differs in is_other.items() if differs.mean() > 0.05
    ]
