"""The detector of a finished run, ready to score pictures of any size: `brittle_jax.load_detector`."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from PIL import Image

from brittle_jax import files
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply import heat_maps, untrusted
from brittle_jax.apply.batching import Rows, rows_of_stacks
from brittle_jax.apply.detector import Detector
from brittle_jax.config import get_base_config
from brittle_jax.data.picture_file import to_rgb
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import DeviceGroup, gather
from brittle_jax.errors import DamagedError, DegenerateDataError, UserError
from brittle_jax.evaluate import brittleness, conformal, detectors
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate.calibration import Calibration
from brittle_jax.evaluate.coordinates import Target
from brittle_jax.inference import outputs_of_batch
from brittle_jax.results import DETECTORS, recommended_detector

Pictures = np.ndarray | Sequence[np.ndarray]
_MOST_JSON_BYTES = 2**26  # of a run's own results.json and config.json
_MOST_IN_BATCH = 4096
_EVERY_IMAGE = 2**31

_Tag = TypeVar("_Tag")


def load_detector(
    run: str | os.PathLike, configuration: str | None = None, *, devices: DeviceGroup | None = None
) -> "LoadedDetector":
    """Reads the detector of a finished run; neither its data set nor its config is needed.

    Args:
        run: the folder of the run.
        configuration: such as "unimodal/airplane"; None: the only one that the run has.
        devices: that share the work; None: all of this process.

    Raises:
        UserError: if there is no such detector or several, or it is damaged.
    """
    run = pathlib.Path(run).expanduser()
    configuration = configuration or detector_lib.only_configuration(run)
    detector = detector_lib.load(run, configuration)
    return LoadedDetector(
        detector=detector,
        run=run,
        configuration=configuration,
        recommended=_recommended(run, configuration),
        calibration=_calibration(run, configuration),
        devices=devices or DeviceGroup(),
        batch_size=_setting(run, "evaluate.batch_size", most=_MOST_IN_BATCH),
        max_image_pixels=_setting(run, "data.max_image_pixels", most=get_base_config().data.max_image_pixels),
    )


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class LoadedDetector:
    """Scores pictures as the run did that made the detector, any number of them with one compiled program.

    Pictures are an array [N, H, W, C] or a sequence of arrays [H, W, C] that may differ in size; uint8, or float in
    [0, 1], which is rounded to 8 bits, as in a file. One channel is grey, three are RGB, and four are RGBA, laid over
    white. They are resized, or cut into patches, as in the run; of a picture that is cut, the largest value counts.

    Attributes:
        detector: networks and Gaussian.
        run: the folder that it was read from.
        configuration: such as "unimodal/airplane".
        recommended: which of the four scores p-values and thresholds are of, unless another is named.
        calibration: normal samples that were held back from training, or scored later; None if there are none.
        devices: that share the work.
        batch_size: of the run's own evaluation.
        max_image_pixels: of a picture file; larger ones are refused.
    """

    detector: Detector
    run: pathlib.Path
    configuration: str
    recommended: str
    calibration: Calibration | None
    devices: DeviceGroup
    batch_size: int
    max_image_pixels: int

    def __post_init__(self) -> None:
        # On the devices once, not with every batch.
        parts = ("student", "teacher", "coordinates")
        models = {name: self.devices.replicate(getattr(self.detector, name)) for name in parts}
        object.__setattr__(self, "_models", models)

    def score(self, pictures: Pictures) -> Rows:
        """Returns all four anomaly scores [N], by name; higher is more anomalous.

        Raises:
            UserError: if the pictures are not as described above.
            DegenerateDataError: if a score is not finite.
        """
        parts = self.scores_of_images((None, self._images(each)) for each in several(pictures))
        found = [largest(rows) for part in parts for _, rows in part]
        return {name: np.array([each[name] for each in found], np.float32) for name in DETECTORS}

    def gradient_norm(self, pictures: Pictures) -> np.ndarray:
        """Returns the norm [N] of each picture's input gradient, whose mean is Equation 2's numerator.

        The gradient is that of the distillation loss, along the student alone, with respect to pixels in [0, 1].

        Raises:
            UserError: as `score`.
        """
        stacks = ((None, self._images(each)) for each in several(pictures))
        parts = rows_of_stacks(self._start_gradients, _gradient_rows, stacks, self.batch_size_used)
        return np.array([rows["gradient_norm"].max() for part in parts for _, rows in part], np.float32)

    def explain(self, pictures: Pictures, detector: str | None = None, kind: str | None = None) -> np.ndarray:
        """Returns maps [N, h, w] of where the scores of pictures come from: see `heat_maps.explain`.

        Args:
            detector: which of the four scores; None: the recommended one.
            kind: as in `heat_maps.explain`.

        Raises:
            UserError: as `score`; for a detector of patches, which `heat_maps.assemble` puts together.
        """
        if self.detector.preprocessing.patches is not None:
            raise UserError("pictures are cut into patches: explain these, then put the maps together by assemble")
        explain = functools.partial(heat_maps.explain, self.detector, name=self.known(detector), kind=kind)
        maps = [np.asarray(explain(to_unit_range(self._images(each)))) for each in several(pictures)]
        if not maps:
            none = jax.ShapeDtypeStruct((0, *self.detector.preprocessing.image_shape), np.float32)
            maps = [np.empty(jax.eval_shape(explain, none).shape, np.float32)]
        return np.concatenate(maps)

    def p_value(self, scores: Rows | Pictures, detector: str | None = None) -> np.ndarray:
        """Returns how unusual pictures are, [N]: see `evaluate.conformal.p_values`.

        Args:
            scores: what `score` returned, or pictures.
            detector: which of the four scores; None: the recommended one.

        Raises:
            UserError: if there are no calibration samples, or as `score`.
        """
        detector = self.known(detector)
        scores = scores if isinstance(scores, Mapping) else self.score(scores)
        return conformal.p_values(self.calibrated().scores_of(detector), scores[detector])

    def threshold(self, false_alarm_rate: float, detector: str | None = None) -> float:
        """Returns the score above which a picture is flagged: see `evaluate.conformal.threshold`.

        Raises:
            UserError: if there are no calibration samples, or the rate is not between 0 and 1.
            DegenerateDataError: if there are too few for the rate; it says how many it takes.
        """
        return conformal.threshold(self.calibrated().scores_of(self.known(detector)), false_alarm_rate)

    def calibrated(self) -> Calibration:
        """Returns the calibration samples; raises UserError, which says how to get some, where there are none."""
        if self.calibration is None:
            raise UserError(
                f"{self.run} has no calibration images for {self.configuration}: score new normal ones with python -m "
                f"brittle_jax.score --run={self.run} --recalibrate=DIR, or train with data.calibration_fraction=0.2"
            )
        return self.calibration

    def scores_of_images(self, stacks: Iterable[tuple[_Tag, np.ndarray]]) -> Iterator[list[tuple[_Tag, Rows]]]:
        """Scores a stream of pictures, as `preprocessing.images_of` gives them; memory does not grow with their number.

        Args:
            stacks: tags, which come back, and the images [P, H, W, 3] uint8 of a picture; P may be 0.

        Yields:
            For each batch, tags and all four scores [P] of the images, in order; no scores for P = 0.

        Raises:
            DegenerateDataError: if a score is not finite.
        """
        return rows_of_stacks(self._start_outputs, self._score_rows, stacks, self.batch_size_used)

    def maps_of_images(
        self, stacks: Iterable[tuple[_Tag, np.ndarray]], names: tuple[str, ...]
    ) -> Iterator[list[tuple[_Tag, Rows]]]:
        """Explains a stream of pictures as `scores_of_images` scores one.

        Args:
            stacks: as there.
            names: of scores.

        Yields:
            For each batch, tags and the maps [P, h, w] of each named score, as `heat_maps.explain` gives them, in
            order; none for P = 0.
        """
        explain = self.devices.evaluation(heat_maps.maps_of_batch, heat_maps.kind_of(self.detector), names)
        detector = self.devices.replicate(self.detector)

        def start(batch: np.ndarray) -> Any:
            return explain(detector, {"image": batch})

        def finish(maps: Any) -> Rows:
            return dict(zip(names, gather(maps), strict=True))

        return rows_of_stacks(start, finish, stacks, self.batch_size_used)

    def heat_map_scales(self) -> dict[str, float]:
        """Returns the scale of each score's maps, from the calibration samples; see `heat_maps.read_scales`.

        Raises:
            UserError: if there is none; it says how to get it.
        """
        later = self.run / calibration_lib.LATER
        is_later = self.calibration is not None and self.calibration.made_with
        # An earlier version did not measure it again.
        folder = later if is_later and heat_maps.has_scales(later, self.configuration) else self.run
        return heat_maps.read_scales(folder, self.configuration)

    def view_suffixes(self, given: str | None = None) -> str:
        """Returns how the file names of a parcel's views end: as given, else as in the run; empty: one view."""
        if given is not None or self.detector.preprocessing.patches is None:
            return given or ""
        found = _read(self.run / "config.json").get("data.view_suffixes", "")
        return found if isinstance(found, str) else ""

    @property
    def batch_size_used(self) -> int:
        """The batch size of all programs here: that of the run, as far as the devices allow it."""
        shape = self.detector.preprocessing.image_shape
        size = self.devices.fit_batch_size(self.batch_size, _EVERY_IMAGE, shape)
        return -(-size // self.devices.size) * self.devices.size

    def _start_outputs(self, batch: np.ndarray) -> tuple[Any, Any]:
        # The programs of the run, so that scores are equal bit for bit; see `detector.score`.
        evaluate = self.devices.evaluation(outputs_of_batch)
        return evaluate(self._models["student"], {"image": batch}), evaluate(self._models["teacher"], {"image": batch})

    def _score_rows(self, outputs: tuple[Any, Any]) -> Rows:
        gaussian, coordinates = self.detector.gaussian, self.detector.coordinates
        scores = detectors.scores_of_outputs(*map(gather, outputs), gaussian=gaussian, coordinates=coordinates)
        return {name: np.asarray(values) for name, values in scores.items()}

    def _start_gradients(self, batch: np.ndarray) -> Any:
        model = self._models["student"], Target(self._models["teacher"], self._models["coordinates"])
        return self.devices.evaluation(_norms_of_batch)(model, {"image": batch})

    def _images(self, picture: np.ndarray) -> np.ndarray:
        return self.detector.preprocessing.images_of(as_picture(picture))

    def known(self, detector: str | None) -> str:
        """Returns the name of a score, the recommended one for None; raises UserError if there is none of that name."""
        if detector is not None and detector not in DETECTORS:
            raise UserError(f"{detector!r} is not one of {', '.join(DETECTORS)}")
        return detector or self.recommended


def largest(rows: Rows) -> dict[str, float]:
    """Returns the scores of a picture from those of its images.

    Raises:
        DegenerateDataError: if one is not finite.
    """
    found = {name: float(values.max()) for name, values in rows.items()}
    if not np.isfinite(list(found.values())).all():
        raise DegenerateDataError("a score is not a finite number: the detector is damaged, or was badly trained")
    return found


def several(pictures: Pictures) -> Pictures:
    """Returns pictures as they are; raises UserError for a single one, whose rows would be taken for pictures."""
    shape = getattr(pictures, "shape", ())
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        raise UserError(f"the shape {tuple(shape)} is that of a single picture: add a batch axis: images[None]")
    return pictures


def as_picture(picture: np.ndarray) -> np.ndarray:
    """Returns a picture [H, W, C], C 1, 3 or 4, uint8 or float in [0, 1], as [H, W, 3] uint8, as files are read.

    Raises:
        UserError: if it is not one.
    """
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3, 4) or not picture.size:
        raise UserError(
            f"a picture has the shape {picture.shape}: give [N, H, W, C] or a list of [H, W, C], C 1, 3 or 4"
        )
    if picture.dtype != np.uint8:
        if not np.issubdtype(picture.dtype, np.floating):
            raise UserError(f"a picture is of {picture.dtype}: give uint8, or float in [0, 1]")
        if not ((picture >= 0) & (picture <= 1)).all():
            raise UserError("a picture of real numbers has values outside [0, 1]: divide by its white level")
        picture = np.rint(picture * 255).astype(np.uint8)
    if picture.shape[-1] == 3:
        return picture
    return np.asarray(to_rgb(Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)))


def _norms_of_batch(model, batch):
    student, target = model
    return brittleness.input_gradient_norms(student, target, to_unit_range(batch["image"]))


def _gradient_rows(norms: Any) -> Rows:
    return {"gradient_norm": gather(norms)}


def _calibration(run: pathlib.Path, configuration: str) -> Calibration | None:
    """Returns the calibration samples that came after the run, or else its own."""
    name = f"{configuration}.csv"
    for kind in (calibration_lib.LATER, calibration_lib.OWN):
        untrusted.check_inside(run / kind / name, run)
    later = calibration_lib.read(run / calibration_lib.LATER, configuration)
    if later is not None and later.made_with == digest_of_detector(run, configuration):
        return later
    own = calibration_lib.read(run / calibration_lib.OWN, configuration)
    if own is not None and (run / files.MANIFEST).exists():  # else the run is not finished yet
        files.check_regular(run / files.MANIFEST, _MOST_JSON_BYTES)
        if not files.is_as_listed(run, f"{calibration_lib.OWN}/{name}"):
            raise DamagedError(run / calibration_lib.OWN / name, "changed")
    return own


def digest_of_detector(run: pathlib.Path, configuration: str) -> str:
    """Returns the SHA-256 of a detector's manifest: another detector has another."""
    manifest = detector_lib.folder_of(run, configuration) / files.MANIFEST
    return files.sha256_of_file(manifest) if manifest.is_file() else ""


def _recommended(run: pathlib.Path, configuration: str) -> str:
    entries = _read(run / "results.json").get("configurations", [])
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == configuration:
            return recommended_detector(entry)
    return recommended_detector({})


def _setting(run: pathlib.Path, name: str, most: int) -> int:
    """Returns a setting of the run, or its default where the run does not say."""
    group, field = name.split(".")
    value = _read(run / "config.json").get(name)
    return value if type(value) is int and 0 < value <= most else get_base_config()[group][field]


def _read(file: pathlib.Path) -> dict[str, Any]:
    """Reads a file that need not be there."""
    if not file.exists():
        return {}
    files.check_regular(file, _MOST_JSON_BYTES)
    content = files.read_json(file)
    if not isinstance(content, dict):
        raise DamagedError(file, "not as a run writes it")
    return content
