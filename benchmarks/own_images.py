"""Which levels, side, student and targets are good defaults for your own images? Chosen without the leaves.

    python -m benchmarks.own_images --data=DIR [--tasks=automobile,bag-defects]

The rules were written down before the first run, in docs/measurements.md. Everything is seeded; tables are printed as
they come.
"""

import argparse
import dataclasses
import itertools
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply.detector import Detector
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.config import get_base_config
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.images import Images
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.detectors import Gaussian, fit_gaussian
from brittle_jax.evaluate.metrics import separation
from brittle_jax.evaluate.moments import moments_of
from brittle_jax.loop import Loop
from brittle_jax.models import lite_weights
from brittle_jax.models.efficientnet import EfficientNetLite
from brittle_jax.models.network import Network, NetworkSettings, init_variables, replace_trunk, trunk_of
from brittle_jax.models.trunk import EXTREMES
from brittle_jax.results import DETECTORS
from brittle_jax.run import settings
from brittle_jax.student import distillation, num_updates

TASKS = {  # data set, normal class, whether anomalies are made-up defects
    "automobile": ("cifar10", "automobile", False),
    "deer": ("cifar10", "deer", False),
    "T-shirt": ("fashion_mnist", "T-shirt/top", False),
    "bag": ("fashion_mnist", "Bag", False),
    "automobile-defects": ("cifar10", "automobile", True),
    "bag-defects": ("fashion_mnist", "Bag", True),
}
SIDES = (96, 128, 224)
LEVELS = {
    "stage2,stage3": (24, 40),
    "stage3,stage5": (40, 112),
    "stage2,stage3,stage5": (24, 40, 112),
    "stage2,stage3,stage5,stage7": (24, 40, 112, 320),
    "stage1:extremes,stage2,stage2:extremes,stage3,stage5,stage7": (32, 24, 48, 40, 112, 320),  # tried in `pooling`
    "final": (1280,),
}
STUDENTS = (
    "small_convnet-standardised-5",
    "small_convnet-raw-5",
    "small_convnet-whitened-5",
    "small_convnet-standardised-20",
    "small_convnet-raw-20",
    "twin-standardised-5",
    "twin-raw-5",
)
NUM_TRAIN, NUM_TEST, BATCH_SIZE, RATE = 600, 150, 16, 1e-3
LARGE = 224  # pixels, at which defects are painted


@dataclasses.dataclass(frozen=True)
class Task:
    """Pictures [900, 224, 224, 3] uint8: 600 normal ones to learn, 150 normal and 150 anomalous ones to test on."""

    name: str
    pictures: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """[300], of those that are tested."""
        return np.repeat([0, 1], NUM_TEST)

    def at(self, side: int) -> np.ndarray:
        """Returns the pictures reduced to a side."""
        if side == LARGE:
            return self.pictures
        return np.stack([_resized(picture, side) for picture in self.pictures])


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def read_task(name: str, data: str) -> Task:
    """Draws the pictures of a task, by a seed."""
    config = get_base_config()
    config.data.name, normal, has_defects = TASKS[name]
    config.data.dir = data
    dataset = load(config.data.name, settings.data_of(config, config.data.name))
    rng = np.random.default_rng(0)
    is_normal = dataset.samples.labels == dataset.samples.classes.index(normal)
    chosen = rng.permutation(np.flatnonzero(is_normal))[: NUM_TRAIN + 2 * NUM_TEST]
    if not has_defects:
        chosen[-NUM_TEST:] = rng.permutation(np.flatnonzero(~is_normal))[:NUM_TEST]
    pictures = np.stack([_resized(dataset.images.read(index), LARGE) for index in chosen])
    if has_defects:
        for number in range(NUM_TEST):
            defect = (_scar, _blob, _blurred_spot)[number % 3]
            pictures[-1 - number] = np.asarray(defect(Image.fromarray(pictures[-1 - number]), rng))
    return Task(name, pictures)


def _place(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.25, 0.75, 2) * LARGE


def _scar(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Paints a crooked line, 3 pixels wide."""
    points = np.cumsum([_place(rng), *rng.normal(0, 9, (5, 2))], axis=0)
    ImageDraw.Draw(picture).line([tuple(point) for point in points], tuple(rng.integers(0, 256, 3)), width=3)
    return picture


def _blob(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Paints a filled ellipse of 8 to 20 pixels."""
    centre, radii = _place(rng), rng.uniform(4, 10, 2)
    ImageDraw.Draw(picture).ellipse([*(centre - radii), *(centre + radii)], tuple(rng.integers(0, 256, 3)))
    return picture


def _blurred_spot(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blurs a square of 48 pixels, by 6."""
    left, top = (_place(rng) - 24).astype(int).tolist()
    box = (left, top, left + 48, top + 48)
    picture.paste(picture.crop(box).filter(ImageFilter.GaussianBlur(6)), box)
    return picture


class EveryStage(EfficientNetLite):
    """The averages and the extremes of every stage and the final features, by name, from one pass."""

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Maps images [N, H, W, 3] in [0, 1] to features [N, F] of each stage."""
        features = {}
        for name, activations in zip(self.level_names, self.stages(2 * images - 1, False), strict=True):
            features[name] = activations.mean(axis=(1, 2))
            extremes = activations.max(axis=(1, 2)), activations.min(axis=(1, 2))
            features[name + EXTREMES] = jnp.concatenate(extremes, axis=-1)
        return {**features, "final": self.pool(activations, False)}


def teacher_of(levels: str) -> Network:
    """Returns EfficientNet-Lite0 with ImageNet's weights."""
    module = NetworkSettings("efficientnet_lite0", 0, levels="" if levels == "final" else levels).module
    variables = init_variables(module, 0, (96, 96, 3))
    return Network(
        module, replace_trunk(variables, lite_weights.load_trunk(lite_weights.find_file(), trunk_of(variables)))
    )


def features_of(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the features [900, F] of every stage."""
    trunk = trunk_of(teacher_of("final").variables)
    function = jax.jit(lambda images: EveryStage().apply(trunk, images))
    batches = [function(pictures[start : start + 30] / np.float32(255)) for start in range(0, len(pictures), 30)]
    return {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}


def fit(rows: np.ndarray) -> Gaussian:
    """Fits the Gaussian of full Mahalanobis, with the shrinkage of Ledoit and Wolf."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    train = rows[:NUM_TRAIN]
    shrinkage = ledoit_wolf_shrinkage(train)
    return fit_gaussian(moments_of(train, np.arange(NUM_TRAIN)), covariance="ledoit_wolf", shrinkage=shrinkage)


@dataclasses.dataclass(frozen=True)
class KnownRows:
    """A teacher's outputs that are known already: what `distillation` and `score` need of `Representations`."""

    rows: np.ndarray
    teacher_sha256: str = ""

    def compute(self, indices: np.ndarray) -> np.ndarray:
        """Returns all rows."""
        return self.rows

    def outputs_of(self, indices: np.ndarray) -> np.ndarray:
        """Returns the rows [M, F] of images [M]."""
        return self.rows[indices]


@dataclasses.dataclass(frozen=True)
class Trial:
    """What one student gave on one task: AUROC, and its error over the mean predictor's."""

    auroc: dict[str, float]
    error_ratio: float
    seconds: float


def try_student(task: Task, rows: np.ndarray, levels: str, side: int, student: str, targets: str, epochs: int) -> Trial:
    """Distils a student, and scores the test pictures."""
    start = time.monotonic()
    pictures = task.at(side)
    images = Images(len(pictures), pictures.shape[1:], lambda index: pictures[index])
    network = NetworkSettings("efficientnet_lite0", 0, levels="" if levels == "final" else levels, student=student)
    gaussian, known, loop = fit(rows), KnownRows(rows), Loop(DeviceGroup(), 50)
    work = distillation(
        network.student_module,
        images,
        np.arange(NUM_TRAIN),
        known,
        name=task.name,
        seed=0,
        num_updates=num_updates(NUM_TRAIN, batch_size=BATCH_SIZE, num_epochs=epochs),
        batch_size=BATCH_SIZE,
        learning_rate=RATE,
        training_dtype="float32",
        devices=loop.devices,
        coordinates=gaussian.coordinates(targets),
    )
    pupil = Network(network.student_module, loop.run(work).variables)
    detector = Detector(pupil, teacher_of(levels), gaussian, network, Preprocessing(side), targets)
    test = np.arange(NUM_TRAIN, NUM_TRAIN + 2 * NUM_TEST)
    scores = detector_lib.score(detector, images, test, loop, known)
    mean_predictor = {"raw": "mse", "standardised": "mahalanobis_diag", "whitened": "mahalanobis_full"}[targets]
    scale = rows.shape[1] if targets == "raw" else 1
    ratio = scores["kd"][:NUM_TEST].mean() / (scale * scores[mean_predictor][:NUM_TEST].mean())
    auroc = {name: separation(task.labels, scores[name])["auroc"] for name in DETECTORS}
    return Trial(auroc, float(ratio), time.monotonic() - start)


def mahalanobis_table(tasks: list[Task], sides: tuple[int, ...], sets: list[str]) -> tuple[dict, dict]:
    """Prints AUROC of full Mahalanobis by side and levels; returns these means, and all features."""
    features = {}
    for side, task in itertools.product(sides, tasks):
        start = time.monotonic()
        features[task.name, side] = features_of(task.at(side))
        print(f"<!-- features of {task.name} at {side}: {time.monotonic() - start:.0f} s -->", flush=True)
    print(f"\n| side | levels | features | {' | '.join(task.name for task in tasks)} | mean |")
    print("|---" * (len(tasks) + 4) + "|", flush=True)
    means = {}
    for side, levels in itertools.product(sides, sets):
        aurocs = []
        for task in tasks:
            rows = rows_of(features[task.name, side], levels)
            gaussian = fit(rows)
            scores = np.square((rows - gaussian.mean) @ np.asarray(gaussian.whitening)).sum(axis=1)
            aurocs.append(separation(task.labels, scores[NUM_TRAIN:])["auroc"])
        means[side, levels] = float(np.mean(aurocs))
        cells = " | ".join(f"{100 * auroc:.1f}" for auroc in (*aurocs, means[side, levels]))
        print(f"| {side} | {levels} | {sum(LEVELS[levels])} | {cells} |", flush=True)
    return means, features


def rows_of(features: dict[str, np.ndarray], levels: str) -> np.ndarray:
    """Returns the representations [N, F] of some levels."""
    return np.concatenate([features[name] for name in levels.split(",")], axis=1)


def choose_levels(means: dict[tuple[int, str], float]) -> tuple[int, str]:
    """Returns the side and the levels that rules 1 and 2 choose."""
    best = {side: max(mean for (other, _), mean in means.items() if other == side) for side, _ in means}
    chosen = min(best)
    for side in sorted(best):
        chosen = side if best[side] > best[chosen] + 0.01 else chosen
    near = [levels for side, levels in means if side == chosen and means[side, levels] >= best[chosen] - 0.005]
    return chosen, min(near, key=lambda levels: sum(LEVELS[levels]))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="tfds data_dir that holds cifar10 and fashion_mnist")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--sides", default=",".join(map(str, SIDES)))
    parser.add_argument("--levels", default="", help="one set of levels, instead of all")
    parser.add_argument("--students", default=",".join(STUDENTS), help="STUDENT-TARGETS-EPOCHS, ...; empty: none")
    arguments = parser.parse_args()
    tasks = [read_task(name, arguments.data) for name in arguments.tasks.split(",")]
    sides = tuple(map(int, arguments.sides.split(",")))
    levels = [arguments.levels] if arguments.levels else [each for each in LEVELS if EXTREMES not in each]
    means, features = mahalanobis_table(tasks, sides, levels)
    side, levels = choose_levels(means)
    print(f"\nRules 1 and 2 choose {levels} at {side} pixels.\n")
    print("| task | student | targets | epochs | error ratio | KD | MSE | diagonal | full | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    students = [each.split("-") for each in arguments.students.split(",") if each]
    for task, (student, targets, epochs) in itertools.product(tasks, students):
        rows = rows_of(features[task.name, side], levels)
        architecture = "" if student == "twin" else student
        trial = try_student(task, rows, levels, side, architecture, targets, int(epochs))
        aurocs = " | ".join(f"{100 * value:.1f}" for value in trial.auroc.values())
        print(
            f"| {task.name} | {student} | {targets} | {epochs} | {trial.error_ratio:.2f} | {aurocs} | "
            f"{trial.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
