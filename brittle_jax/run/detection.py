"""A configuration of a row: its detector is made, from normal images alone, and then evaluated."""

import dataclasses
from typing import Any

import numpy as np

from brittle_jax import files, probe, results
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply import heat_maps
from brittle_jax.apply.brittleness import measure_brittleness
from brittle_jax.apply.detector import Detector
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.splits import labelled_lesson
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate import samples
from brittle_jax.evaluate.brittleness import BrittlenessTerms, brittleness
from brittle_jax.evaluate.calibration import Calibration
from brittle_jax.evaluate.detectors import Gaussian, fit_gaussian
from brittle_jax.evaluate.moments import moments_of
from brittle_jax.inference import Representations
from brittle_jax.models.network import Network
from brittle_jax.report.examples import collect_examples
from brittle_jax.rows import Rows
from brittle_jax.run import gradient_rows, scoring, settings, students
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
        image_scores, scores = scoring.score(row, detector, made.representations, configuration.test)
        calibration = scoring.calibrate(row, detector, made.representations, configuration.calibration)
    with row.stage("heat maps"):
        scales = _scales(row, detector, configuration)
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
    with row.stage("metrics"):
        separations = row.loop.call("metrics", lambda: _separations(row, configuration, scores, calibration))
    if row.folder is not None:
        row.check_folder()
        with row.stage("examples"):
            test = dataset.images_of(configuration.test)
            examples = collect_examples(dataset, configuration, test, image_scores, scores)
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
            most_bytes=round(row.config.evaluate.keep_errors_mib * 2**20),
            seed=derive_seed(row.config.seed, "kept errors", configuration.name),
        )
    return _entry(row, made, configuration, measured.terms, image_scores, {**separations, "probe": probed})


def _scales(row: Row, detector: Detector, configuration: Configuration) -> dict[str, float]:
    """Returns the scales of heat maps; none without calibration samples."""
    if not len(configuration.calibration):
        return {}
    held_back = row.dataset.images_of(configuration.calibration)
    return heat_maps.measure_scales(detector, row.dataset.images, held_back, row.loop)


def _entry(
    row: Row,
    made: MadeDetector,
    configuration: Configuration,
    terms: BrittlenessTerms,
    image_scores: samples.Scores,
    measured: dict[str, Any],
) -> dict[str, Any]:
    """Returns a configuration's entry in results.json; `measured` are fields that are known already."""
    dataset, num_features = row.dataset, made.representations.num_features
    train, test = dataset.images_of(configuration.train), dataset.images_of(configuration.test)
    normal = configuration.test[configuration.test_labels == 0]
    error = scoring.student_error(row, made.detector, normal, test, image_scores)
    scoring.warn_if_untaught(configuration, error)
    entry = {
        "name": configuration.name,
        "group": configuration.group,
        "num_train": len(configuration.train),
        "num_test_normal": int((configuration.test_labels == 0).sum()),
        "num_test_anomalous": int((configuration.test_labels == 1).sum()),
        **measured,
        "brittleness": brittleness(terms.gradient_norm, terms.error_trace),
        "gradient_norm": terms.gradient_norm,
        "error_trace": terms.error_trace,
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
