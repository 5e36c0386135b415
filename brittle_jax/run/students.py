"""The student of a configuration: how long it trains and how far that moves it, its training, and its course."""

import dataclasses
from typing import Any

import ml_collections
import numpy as np

from brittle_jax import console, student
from brittle_jax.apply.brittleness import measure_brittleness
from brittle_jax.apply.detector import Detector
from brittle_jax.config import parcels_version, parse_counts
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.samples import limit
from brittle_jax.errors import UserError
from brittle_jax.evaluate.brittleness import brittleness
from brittle_jax.evaluate.detectors import Gaussian
from brittle_jax.evaluate.metrics import separation
from brittle_jax.inference import Representations
from brittle_jax.models.network import Network, NetworkSettings
from brittle_jax.run import scoring, settings, vulnerability
from brittle_jax.run.row import Row
from brittle_jax.seeding import derive_seed


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long a student trains, and how far that can move it.

    Attributes:
        update_steps: how many updates it makes.
        learning_rate: of each.
        movement: of its weights, as `student.movement` counts it.
        recipe_movement: of a student of the row's full recipe.
    """

    update_steps: int
    learning_rate: float
    movement: float
    recipe_movement: float


def budget_of(row: Row, configuration: Configuration) -> Budget:
    """Returns how a student trains: at the rate that is set, or so that it moves as far as in the row's recipe.

    The paper's student makes some thousand updates at 1e-5. One that makes fewer, or whose weights are drawn larger
    because its layers are narrower, moves less far in proportion. With `distill.keep_movement` the recipe's rate is
    scaled by how far the recipe's student moves over how far this one would.
    """
    recipe, distill = row.recipe or row.config, row.config.distill
    update_steps = _num_updates(distill, len(row.dataset.images_of(configuration.train)))
    recipe_steps = _num_updates(recipe.distill, _num_recipe_images(row, recipe, configuration))
    recipe_rate = recipe.distill.learning_rate
    recipe_movement = student.movement(NetworkSettings(**recipe.network), recipe_steps, recipe_rate)
    rate = distill.learning_rate
    if distill.keep_movement:
        rate = recipe_rate * recipe_movement / student.movement(row.network, update_steps, recipe_rate)
    return Budget(update_steps, rate, student.movement(row.network, update_steps, rate), recipe_movement)


def _num_updates(distill: ml_collections.ConfigDict, num_images: int) -> int:
    return student.num_updates(
        num_images, batch_size=distill.batch_size, num_epochs=distill.num_epochs, update_steps=distill.update_steps
    )


def _num_recipe_images(row: Row, recipe: ml_collections.ConfigDict, configuration: Configuration) -> int:
    """Returns how many normal images train in the row's full recipe, where a sample has as many as here."""
    known, num_samples = CATALOGUE[row.dataset.name], configuration.num_normal
    if row.dataset.synthetic and known.train_per_class:  # a stand-in is smaller than the data set
        num_samples = known.train_per_class * len(np.unique(row.dataset.samples.labels[configuration.train]))
    elif parcels_version(row.config):
        num_samples *= recipe.data.parcels.num_normal / row.config.data.parcels.num_normal
    if most := recipe.data.max_train_samples:
        num_samples = min(num_samples, most)
    per_sample = len(row.dataset.images_of(configuration.train)) / len(configuration.train)
    return round(num_samples * per_sample)


def say_budget(budget: Budget) -> None:
    """Says how a student trains."""
    console.say(
        f"  student: {console.count(budget.update_steps, 'update')} at learning rate {budget.learning_rate:.3g}, which "
        f"can move a weight by {budget.movement:.3g} times the spread of the random weights that it starts from "
        f"(in the recipe: {budget.recipe_movement:.3g})"
    )


def check_points(row: Row, configuration: Configuration) -> list[int]:
    """Returns the updates after which a student is measured; raises UserError for one that it does not make."""
    points = sorted(set(parse_counts(row.config.distill.measure_at)))
    update_steps = _num_updates(row.config.distill, len(row.dataset.images_of(configuration.train)))
    if points and points[-1] > update_steps:
        raise UserError(
            f"distill.measure_at={row.config.distill.measure_at}: the student of {configuration.name} makes "
            f"{update_steps:,} updates: give no more than that"
        )
    return points


def distil(
    row: Row,
    configuration: Configuration,
    teacher: Network,
    gaussian: Gaussian,
    representations: Representations,
    budget: Budget,
) -> tuple[Network, list[dict[str, Any]]]:
    """Trains a student, and measures it on the way.

    Returns:
        The student, and its course: how well it detects, and how near to the teacher it is, after each of the updates
        that `distill.measure_at` names.
    """
    module, targets = row.network.student_module, row.config.distill.targets
    work = student.distillation(
        module,
        row.dataset.images,
        row.dataset.images_of(configuration.train),
        representations,
        name=configuration.name,
        seed=settings.student_seed(row.config),
        num_updates=budget.update_steps,
        batch_size=row.config.distill.batch_size,
        learning_rate=budget.learning_rate,
        training_dtype=row.network.training_dtype,
        devices=row.loop.devices,
        coordinates=gaussian.coordinates(targets),
    )
    course = []
    for point in check_points(row, configuration):
        state = row.loop.run(work, until=point)
        work = dataclasses.replace(work, state=state, first=point)
        pupil = Network(module, state.variables)
        detector = Detector(pupil, teacher, gaussian, row.network, row.preprocessing, targets)
        is_past = row.progress is not None and int(state.step) > point  # a training that went on, from a later state

        def measured(detector: Detector = detector, is_past: bool = is_past) -> dict[str, Any] | None:
            return None if is_past else measure(row, configuration, detector, representations)

        if (values := row.remember_own(configuration, f"student-after-{point}", measured)) is None:
            console.warn(f"what was measured after {point:,} updates is lost, and left out")
            continue
        movement = budget.movement * point / budget.update_steps
        course.append({"update_steps": point, "movement": movement, **values})
        console.say(f"  after {console.count(point, 'update')}: {_in_words(values)}")
    state = row.loop.run(work) if work.first < work.num_steps else work.state
    return Network(module, state.variables), course


def measure(
    row: Row, configuration: Configuration, detector: Detector, representations: Representations
) -> dict[str, Any]:
    """Measures a student on some of the configuration's samples, drawn by the seed: the same ones at each point."""
    most, dataset = row.config.distill.measure_samples, row.dataset
    rng = np.random.default_rng(derive_seed(row.config.seed, "course", configuration.name))
    train = limit(configuration.train, most, rng)
    normal, anomalous = (limit(configuration.test[configuration.test_labels == label], most, rng) for label in (0, 1))
    test = np.concatenate([normal, anomalous])
    image_scores, scores = scoring.score(row, detector, representations, test)
    error = scoring.student_error(row, detector, normal, dataset.images_of(test), image_scores)
    terms = measure_brittleness(
        detector,
        dataset.images,
        dataset.images_of(train),
        row.loop,
        representations,
        path=row.config.evaluate.gradient_path,
        folder=row.folder,
        most_bytes_in_memory=row.most_bytes_in_memory,
    ).terms
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    attacked = {}
    if row.config.attack.enabled:
        attacked["attack"] = vulnerability.measure(row, configuration, detector, test, labels, scores, None)
    return {
        "error_ratio": error["error_ratio"],
        "kd_auroc": separation(labels, scores["kd"])["auroc"] if len(anomalous) else None,
        "brittleness": brittleness(terms.gradient_norm, terms.error_trace),
        "gradient_norm": terms.gradient_norm,
        "error_trace": terms.error_trace,
        **attacked,
    }


def _in_words(values: dict[str, Any]) -> str:
    ratio, auroc = values["error_ratio"], values["kd_auroc"]
    parts = ["" if ratio is None else f"error {ratio:.3g} times the mean predictor's"]
    parts += ["" if auroc is None else f"KD AUROC {100 * auroc:.1f}", f"brittleness {values['brittleness']:.4f}"]
    return ", ".join(part for part in parts if part)
