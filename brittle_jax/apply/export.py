"""Exports a run's detector as one file that JAX runs by itself, without this package, on other machines too."""

import datetime
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL
from jax import export

import brittle_jax
from brittle_jax import files
from brittle_jax.apply import exported, resizing
from brittle_jax.apply.detector import Detector
from brittle_jax.apply.loaded import LoadedDetector, load_detector
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.errors import UserError
from brittle_jax.evaluate import conformal
from brittle_jax.results import DETECTORS

PLATFORMS = ("cpu", "cuda", "tpu")
FALSE_ALARM_RATE = 0.05  # by default, where there are calibration pictures enough

_ROUNDING = 1e-5  # relative; programs differ by less in how they round
_COMPATIBILITY = (
    "JAX runs this program if it is at most 6 months newer, or 3 weeks older, than the version that exported it: "
    "https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees"
)


def export_detector(
    run: str | os.PathLike,
    file: str | os.PathLike,
    configuration: str | None = None,
    *,
    platforms: Sequence[str] = PLATFORMS,
    false_alarm_rate: float | None = None,
) -> dict[str, Any]:
    """Writes the detector of a finished run to one file, which `brittle_jax.apply.exported` reads.

    The file is a zip of two serialized programs, a header in JSON, inputs with the scores that they must get, and the
    reader. The inputs are made up, so that the file shows none of the run's pictures. One program resizes a picture of
    any size, the other one maps any number of images [N, H, W, 3] uint8 to all scores. A detector of patches has only
    the latter.

    Args:
        run: the folder of the run.
        file: is replaced if it is there.
        configuration: such as "unimodal/airplane"; None: the run's only one.
        platforms: that the program is for, of "cpu", "cuda", "rocm" and "tpu". None of them need be here.
        false_alarm_rate: of the thresholds; None: 5% if the run has the calibration pictures for it, else no threshold.

    Returns:
        The header.

    Raises:
        UserError: if there is no such detector, if it is damaged, or if flatbuffers is not installed; if a false-alarm
            rate is given and the run has no calibration pictures.
        DegenerateDataError: if there are too few calibration pictures for the false-alarm rate.
    """
    loaded = load_detector(run, configuration)
    detector = loaded.detector
    entries = {exported.SCORING: _serialized(_scoring(detector, platforms))}
    takes_patches = detector.preprocessing.patches is not None
    if not takes_patches:
        entries[exported.RESIZING] = _serialized(_resizing(detector.preprocessing.side_pixels, platforms))
    inputs, scores = _examples(detector)
    rate, thresholds = _thresholds(loaded, false_alarm_rate)
    header = {
        "format_version": exported.FORMAT_VERSION,
        "row": _row_of(loaded.run),
        "configuration": loaded.configuration,
        "takes": "patches" if takes_patches else "pictures",
        "side_pixels": detector.preprocessing.side_pixels,
        "largest_reduction": resizing.LARGEST_REDUCTION,
        "detectors": list(DETECTORS),
        "recommended": loaded.recommended,
        "thresholds": thresholds,
        "false_alarm_rate": rate,
        "num_calibration": 0 if loaded.calibration is None else loaded.calibration.num_groups,
        "rounding": _ROUNDING,
        "platforms": list(platforms),
        "made_by": f"brittle_jax {brittle_jax.__version__}",
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "jax_version": jax.__version__,
        "calling_convention_version": export.maximum_supported_calling_convention_version,
        "compatibility": _COMPATIBILITY,
        "pillow_version": PIL.__version__,
        "inputs": list(inputs),
        "scores": scores,
    }
    entries |= inputs | {"exported.py": pathlib.Path(exported.__file__).read_bytes()}
    header["sha256"] = {name: files.sha256_of_bytes(content) for name, content in entries.items()}
    _write(pathlib.Path(file).expanduser(), {exported.HEADER: files.to_json(header).encode(), **entries})
    return json.loads(files.to_json(header))


def _scoring(detector: Detector, platforms: Sequence[str]) -> export.Exported:
    """Exports images [N, H, W, 3] uint8 to all scores [N] by name, for any N."""
    (count,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((count, *detector.preprocessing.image_shape), jnp.uint8)
    return _export(lambda images: detector(to_unit_range(images)), platforms, images)


def _resizing(side: int, platforms: Sequence[str]) -> export.Exported:
    """Exports a picture [H, W, 3] uint8 and its size [2] int32 to an image [side, side, 3] uint8, for any H and W."""
    order = resizing.tall_is_vertical_first()
    height, width = export.symbolic_shape("h, w")
    return _export(
        lambda picture, size: resizing.resize(picture, size, side, tall_vertical_first=order),
        platforms,
        jax.ShapeDtypeStruct((height, width, 3), jnp.uint8),
        jax.ShapeDtypeStruct((2,), jnp.int32),
    )


def _export(function, platforms: Sequence[str], *arguments: jax.ShapeDtypeStruct) -> export.Exported:
    unknown = set(platforms) - {*PLATFORMS, "rocm"}
    if unknown or not platforms:
        raise UserError(f"platforms={','.join(platforms)!r}: name some of {', '.join(PLATFORMS)}")
    return export.export(jax.jit(function), platforms=tuple(platforms))(*arguments)


def _serialized(program: export.Exported) -> bytes:
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise UserError("exporting needs flatbuffers: python -m pip install 'brittle-jax[export]'") from error


def _examples(detector: Detector) -> tuple[dict[str, bytes], dict[str, list[float]]]:
    """Returns made-up pictures as .npy files, by name, and the scores [P] that the detector itself gives them."""
    side = detector.preprocessing.side_pixels
    sizes = [(side, side)] * 4
    if detector.preprocessing.patches is None:
        sizes += [(2 * side, 3 * side), (3 * side, side - 7)]
    rng = np.random.default_rng(0)
    pictures = [_made_up(rng, size) for size in sizes]
    images = [
        picture if detector.preprocessing.patches else detector.preprocessing.images_of(picture)[0]
        for picture in pictures
    ]
    scores = jax.jit(lambda detector, images: detector(images))(detector, to_unit_range(np.stack(images)))
    stored = {}
    for number, picture in enumerate(pictures):
        buffer = io.BytesIO()
        np.save(buffer, picture, allow_pickle=False)
        stored[f"inputs/{number}.npy"] = buffer.getvalue()
    return stored, {name: np.asarray(scores[name]).tolist() for name in DETECTORS}


def _made_up(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Returns coarse blots with a little noise, [height, width, 3] uint8."""
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    blots = np.asarray(coarse.resize(size[::-1], PIL.Image.Resampling.BICUBIC), float)
    return np.clip(blots + rng.normal(0, 8, blots.shape), 0, 255).astype(np.uint8)


def _thresholds(loaded: LoadedDetector, false_alarm_rate: float | None) -> tuple[float | None, dict[str, float] | None]:
    """Returns the false-alarm rate and the thresholds by detector; None where there are none."""
    if false_alarm_rate is None:
        count = 0 if loaded.calibration is None else loaded.calibration.num_groups
        if count < conformal.num_needed(FALSE_ALARM_RATE):
            return None, None
        false_alarm_rate = FALSE_ALARM_RATE
    return false_alarm_rate, {name: loaded.threshold(false_alarm_rate, name) for name in DETECTORS}


def _row_of(run: pathlib.Path) -> str | None:
    file = run / "results.json"
    return files.read_json(file).get("row") if file.exists() else None


def _write(file: pathlib.Path, entries: dict[str, bytes]) -> None:
    with files.replacing(file) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
