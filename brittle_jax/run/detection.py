"""A configuration of a row: its detector is made, from normal images alone, and then evaluated."""

import dataclasses
from typing import Any

import numpy as np

from brittle_jax import files, probe, results
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply import heat_maps
from brittle_jax.apply.brittleness import MeasuredBrittleness, gradient_norm_by_dimension, measure_brittleness
from brittle_jax.apply.detector import Detector
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.samples import limit
from brittle_jax.data.splits import labelled_lesson
from brittle_jax.evaluate import brittleness_parts, samples, statistics
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate.brittleness import brittleness
from brittle_jax.evaluate.calibration import Calibration
from brittle_jax.evaluate.detectors import Gaussian, fit_gaussian
from brittle_jax.evaluate.localisation import hit_rates
from brittle_jax.evaluate.moments import covariance_of, moments_of
from brittle_jax.inference import Representations
from brittle_jax.models.network import Network
from brittle_jax.report.examples import DETECTOR, collect_examples
from brittle_jax.rows import Rows
from brittle_jax.run import gradient_rows, places, record, scoring, settings, students, vulnerability
from brittle_jax.run.recommendation import recommend
from brittle_jax.run.row import Row
from brittle_jax.run.students import Budget
from brittle_jax.seeding import derive_seed


@dataclasses.dataclass(frozen=True)
class MadeDetector:
    """A detector, and what is known from its making.

    Attributes:
        representations: of its teacher; those of the training images are computed.
        teacher: what is known about the teacher, ready for JSON.
        budget: of the student.
        course: of the student on the way, ready for JSON.
    """

    detector: Detector
    representations: Representations
    teacher: dict[str, Any]
    budget: Budget
    course: list[dict[str, Any]]


def make_detector(row: Row, configuration: Configuration) -> MadeDetector:
    """Obtains the teacher, fits the Gaussian and distils the student; no test image is read.

    The detector is kept in the row's folder.

    Raises:
        DegenerateDataError: if representations do not vary, or are not finite.
        UserError: if training diverges.
    """
    train = row.dataset.images_of(configuration.train)
    with row.stage("pretrain"):
        teacher, description = row.obtain_teacher(configuration)
    with row.stage("represent"):
        representations = row.representations_of(configuration, teacher)
        rows = representations.compute(train)
        gaussian = row.loop.call("fit", lambda: _fit(row, rows, train))
    with row.stage("distill"):
        budget = students.budget_of(row, configuration)
        students.say_budget(budget)
        pupil, course = row.obtain_student(
            configuration,
            teacher,
            budget.update_steps,
            lambda: students.distil(row, configuration, teacher, gaussian, representations, budget),
        )
    targets = row.config.distill.targets
    detector = Detector(pupil, teacher, gaussian, row.network, row.preprocessing, targets)
    if row.folder is not None:
        row.check_folder()
        detector_lib.save(
            row.folder_of(configuration, "detector"),
            detector,
            student=row.folder_of(configuration, "student"),
            teacher=row.folder_of(configuration, "teacher"),
            made_from=row.made_from,
        )
    return MadeDetector(detector, representations, description, budget, course)


def _fit(row: Row, rows: Rows, indices: np.ndarray) -> Gaussian:
    evaluate, shrinkage = row.config.evaluate, row.config.evaluate.ridge
    if evaluate.covariance == "ledoit_wolf":
        from sklearn.covariance import ledoit_wolf_shrinkage

        shrinkage = ledoit_wolf_shrinkage(rows[indices])
    return fit_gaussian(moments_of(rows, indices), covariance=evaluate.covariance, shrinkage=shrinkage)


def evaluate_detector(row: Row, made: MadeDetector, configuration: Configuration) -> dict[str, Any]:
    """Scores the test samples, measures brittleness on the normal training images, and probes the teacher.

    Nothing is trained but the probe. Scores, per-image norms and errors, and examples go to the row's folder.

    Returns:
        The configuration's entry in results.json.
    """
    dataset, detector = row.dataset, made.detector
    with row.stage("probe"):
        probed = row.share("probe", lambda: row.remember(configuration, "probe", lambda: _probe(row, detector.teacher)))
    with row.stage("score"):
        kept = _kept_errors(row, made, configuration)
        image_scores, scores = scoring.score(row, detector, made.representations, configuration.test, kept.take)
        calibration = scoring.calibrate(row, detector, made.representations, configuration.calibration)
    scales = {}
    if len(configuration.calibration):
        with row.stage("heat maps"):
            held_back = dataset.images_of(configuration.calibration)
            scales = heat_maps.measure_scales(detector, dataset.images, held_back, row.loop)
    located = {}
    if dataset.mask_files:
        with row.stage("heat maps"):
            located = places.pixel_aurocs(row, configuration, detector)
    with row.stage("brittleness"):
        measured = measure_brittleness(
            detector,
            dataset.images,
            dataset.images_of(configuration.train),
            row.loop,
            made.representations,
            path=row.config.evaluate.gradient_path,
            folder=row.folder,
            most_bytes_in_memory=row.most_bytes_in_memory,
        )
        by_dimension = _by_dimension(row, made, configuration)
    attacked = {}
    if row.config.attack.enabled:
        with row.stage("attack"):
            attacked["attack"] = vulnerability.measure(
                row, configuration, detector, configuration.test, configuration.test_labels, scores, calibration
            )
    with row.stage("metrics"):
        known = row.loop.call("intervals", lambda: _intervals(row, configuration, measured))
        separations = row.loop.call("metrics", lambda: _separations(row, configuration, scores, calibration))
        anomalous = configuration.test[configuration.test_labels == 1]
        located |= hit_rates(dataset, dataset.images_of(configuration.test), image_scores, anomalous)
    known |= {**separations, "probe": probed, **attacked}
    if located:
        known["localisation"] = located
    entry = _entry(row, made, configuration, measured, image_scores, known)
    if row.folder is not None:
        row.check_folder()
        with row.stage("examples"):
            test = dataset.images_of(configuration.test)
            is_own = row.config.data.path and row.config.data.name != "plant_pathology"  # as the page takes it
            chooser = results.recommended_detector(entry) if is_own else DETECTOR
            examples = collect_examples(dataset, configuration, test, image_scores, scores, chooser)
            examples["reconstructions"] = made.teacher.get("reconstructions")
        files.write_json(row.folder / "examples" / f"{configuration.name}.json", examples)
        results.write_scores(
            row.folder / "scores" / f"{configuration.name}.csv",
            dataset.samples.ids[configuration.test],
            configuration.test_labels,
            scores,
        )
        if calibration is not None:
            calibration_lib.write(row.folder / calibration_lib.OWN, configuration.name, calibration)
            heat_maps.write_scales(row.folder, configuration.name, scales)
        gradient_rows.write(
            row.folder / "brittleness" / f"{configuration.name}.npz",
            measured,
            dataset.images_of(configuration.train),
            most_bytes=_most_error_bytes(row),
            seed=derive_seed(row.config.seed, "kept errors", configuration.name),
            by_dimension=by_dimension,
            of_test=kept,
        )
    return entry


def _kept_errors(row: Row, made: MadeDetector, configuration: Configuration) -> gradient_rows.KeptTestErrors:
    """Returns what collects the student's errors on test images while these are scored."""
    images = row.dataset.images_of(configuration.test)
    anomalous = configuration.test[configuration.test_labels == 1]
    return gradient_rows.KeptTestErrors(
        images,
        np.isin(row.dataset.sample_of_image[images], anomalous).astype(int),
        made.representations.num_features,
        most_bytes=_most_error_bytes(row),
        seed=derive_seed(row.config.seed, "kept test errors", configuration.name),
    )


def _most_error_bytes(row: Row) -> int:
    return round(row.config.evaluate.keep_errors_mib * 2**20)


def _entry(
    row: Row,
    made: MadeDetector,
    configuration: Configuration,
    measured: MeasuredBrittleness,
    image_scores: samples.Scores,
    known: dict[str, Any],
) -> dict[str, Any]:
    """Returns a configuration's entry in results.json; `known` are fields that are known already."""
    dataset, num_features, terms = row.dataset, made.representations.num_features, measured.terms
    train, test = dataset.images_of(configuration.train), dataset.images_of(configuration.test)
    normal = configuration.test[configuration.test_labels == 0]
    error = scoring.student_error(row, made.detector, normal, test, image_scores)
    scoring.warn_if_untaught(configuration, error)
    card = record.measurement_card(
        row,
        configuration,
        num_features=num_features,
        movement=made.budget.movement,
        error_ratio=error["error_ratio"],
    )
    entry = {
        "name": configuration.name,
        "group": configuration.group,
        "num_train": len(configuration.train),
        "num_test_normal": int((configuration.test_labels == 0).sum()),
        "num_test_anomalous": int((configuration.test_labels == 1).sum()),
        **known,
        "brittleness": brittleness(terms.gradient_norm, terms.error_trace),
        "gradient_norm": terms.gradient_norm,
        "error_trace": terms.error_trace,
        "effective_dimensions": statistics.effective_dimensions(covariance_of(terms.errors)),
        "measurement_card": dataclasses.asdict(card),
        "covariance": {
            "rank": made.detector.gaussian.rank,
            "num_features": num_features,
            "num_images": len(train),
        },
        "teacher": {name: value for name, value in made.teacher.items() if name != "reconstructions"},
        "distillation": {
            **dataclasses.asdict(made.budget),
            **error,
            "in_words": results.how_far_in_words(error["error_ratio"]),
            "course": made.course,
        },
        "recommended": recommend("random" if row.is_reference else row.config.teacher.task, error["error_ratio"]),
    }
    if len(dataset.views) > 1:
        entry["auroc_by_view"] = samples.auroc_by_view(
            dataset, test, image_scores, configuration.test, configuration.test_labels
        )
    return entry


def _probe(row: Row, teacher: Network) -> dict[str, Any] | None:
    """Probes pooled features, or levels; an autoencoder's code."""
    if not row.kind.keeps_head:
        variables = {kind: {"trunk": tree["trunk"]} for kind, tree in teacher.variables.items()}
        teacher = Network(dataclasses.replace(row.network, output_features=0).module, variables)
    limits = row.config.probe
    lesson = labelled_lesson(
        row.dataset,
        settings.splitting_of(row.config, learns_anomalies=True),
        "probe",
        max_train_samples=limits.max_train_samples,
        max_test_samples=limits.max_test_samples,
    )
    return probe.probe(teacher, lesson, row.teacher_loop, inverse_penalty=limits.inverse_penalty)


def _by_dimension(row: Row, made: MadeDetector, configuration: Configuration) -> np.ndarray | None:
    """Returns what each output dimension adds to the gradient norm of some images; None if nobody asks for it."""
    if not (most := row.config.evaluate.dimension_images):
        return None
    rng = np.random.default_rng(derive_seed(row.config.seed, "dimensions", configuration.name))
    train = limit(row.dataset.images_of(configuration.train), most, rng)
    path = row.config.evaluate.gradient_path
    return gradient_norm_by_dimension(
        made.detector, row.dataset.images, train, row.loop, made.representations, path=path
    )


def _intervals(row: Row, configuration: Configuration, measured: MeasuredBrittleness) -> dict[str, Any]:
    """Returns the intervals of brittleness and of its terms."""
    dataset = row.dataset
    return brittleness_parts.intervals(
        measured.gradient_norms,
        measured.errors,
        dataset.samples.groups[dataset.sample_of_image[dataset.images_of(configuration.train)]],
        num_samples=row.config.evaluate.bootstrap_samples,
        seed=derive_seed(row.config.seed, "bootstrap", configuration.name),
    )


def _separations(
    row: Row, configuration: Configuration, scores: samples.Scores, calibration: Calibration | None
) -> dict[str, Any]:
    """Returns every metric of every detector, of all anomalies and of each kind; and what thresholds would flag."""
    labels = configuration.test_labels
    kinds = np.asarray(row.dataset.samples.classes)[row.dataset.samples.labels[configuration.test]]
    resampling = {
        "bootstrap_samples": row.config.evaluate.bootstrap_samples,
        "seed": derive_seed(row.config.seed, "bootstrap", configuration.name),
    }
    separations = {
        **samples.separations(labels, scores, **resampling),
        "by_kind": samples.separations_by_kind(labels, kinds, scores, **resampling),
    }
    if calibration is not None:
        separations["calibration"] = scoring.calibration_in_numbers(calibration, scores, labels)
    return separations
