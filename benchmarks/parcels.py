"""Measures the criteria that embedded parcels must fulfil (docs/data-sets.md), and prints them as a table.

    python -m benchmarks.parcels --seed 100
    python -m benchmarks.parcels --seed 100 --only boxes statistics

Parcels are made at the CPU's budget and kept in a folder (`--dir`). Seeds below 100 are for results.
"""

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np

_BOOTSTRAPS = 1000


class Sizes(NamedTuple):
    """On how much the criteria are measured.

    Attributes:
        train, held_out: parcels of each class.
        rotation_train, random_train: of the normal ones, which learn rotations, and which distil random teachers.
        boxes_train, boxes_held_out: empty boxes.
        random_teachers: how many are drawn.
        student_updates: of each random teacher's student.
    """

    train: int = 1000
    held_out: int = 300
    rotation_train: int = 500
    random_train: int = 800
    boxes_train: int = 300
    boxes_held_out: int = 100
    random_teachers: int = 3
    student_updates: int = 2000


FULL_SIZES = Sizes()


class Row(NamedTuple):
    """A line of the table: what was measured, its 95% interval, on how much, and the bounds that it must lie in."""

    name: str
    figure: float
    interval: tuple[float, float]
    sample: str
    bounds: tuple[float, float]


def boxes(lab: "Lab") -> Iterator[Row]:
    """Criterion 1: an empty box must not tell how it was turned."""
    sizes = lab.sizes
    dataset = lab.empty_boxes(sizes.boxes_train + sizes.boxes_held_out)
    train = dataset.images_of(np.arange(sizes.boxes_train))
    held_out = dataset.images_of(np.arange(sizes.boxes_train, len(dataset.samples)))
    sample = f"{len(held_out)} patches of {sizes.boxes_held_out} boxes"
    for name, correct in (
        ("linear classifier", _linear_rotations(dataset, train, held_out)),
        ("small network", lab.rotations(dataset, train, held_out)),
    ):
        yield _accuracy(f"1 rotations of empty boxes, {name}", dataset, held_out, correct, sample, (0, 0.40))


def contents(lab: "Lab") -> Iterator[Row]:
    """Criterion 2: contents must tell it, but not without effort."""
    dataset = lab.parcels
    train = dataset.images_of(np.arange(lab.sizes.rotation_train))
    held_out = dataset.images_of(lab.sizes.train + np.arange(lab.sizes.held_out))
    correct = lab.rotations(dataset, train, held_out)
    sample = f"{len(held_out)} patches of {lab.sizes.held_out} parcels"
    yield _accuracy("2 rotations of contents", dataset, held_out, correct, sample, (0.60, 0.95))
    for view, view_name in enumerate(dataset.views):
        of_view = dataset.view_of_image[held_out] == view
        yield _accuracy(
            f"  {view_name} view", dataset, held_out[of_view], correct[of_view], f"{of_view.sum()} patches", (0, 1)
        )


def statistics(lab: "Lab") -> Iterator[Row]:
    """Criteria 3 and 4: nothing but shapes may tell threats from normal parcels."""
    dataset = lab.parcels
    chosen = lab.training_parcels
    labels = dataset.samples.labels[chosen]
    rows = [statistics_of([dataset.read_view(parcel, view) for view in (0, 1)]) for parcel in chosen]
    for (single, _), parcel in zip(rows, chosen, strict=True):
        single["number of patches"] = (dataset.sample_of_image == parcel).sum()
    sample = f"{lab.sizes.train} + {lab.sizes.train} parcels"
    for name in rows[0][0]:
        values = np.array([single[name] for single, _ in rows])
        low = _auroc("", labels, values, "", (0, 1)).figure < 0.5
        yield _auroc(f"3 {name}", labels, -values if low else values, sample, (0.0, 0.65))
    features = np.array([[*single.values(), *histogram] for single, histogram in rows])
    yield _auroc("4 logistic regression", labels, cross_validated(labels, features), sample, (0.0, 0.75))


def supervised(lab: "Lab") -> Iterator[Row]:
    """Criterion 5: threats can be told by what a network sees."""
    from brittle_jax.evaluate.samples import sample_scores
    from brittle_jax.inference import outputs

    dataset = lab.parcels
    train, chosen = dataset.images_of(lab.training_parcels), lab.held_out_parcels
    held_out = dataset.images_of(chosen)
    network, _ = lab.train("classification", dataset, train, num_epochs=10.0, flip=True, crop_padding_pixels=6)
    logits = outputs(network, dataset.images, held_out, lab.loop, "log odds")
    scores = sample_scores(dataset, held_out, {"odds": logits[:, 1] - logits[:, 0]}, chosen)["odds"]
    sample = f"{lab.sizes.held_out} + {lab.sizes.held_out} parcels"
    yield _auroc("5 supervised classifier", dataset.samples.labels[chosen], scores, sample, (0.95, 1))


def random(lab: "Lab") -> Iterator[Row]:
    """Criterion 6: how well random teachers' detectors do; the one that looks at anomalies of a test set."""
    labels = lab.parcels.samples.labels[lab.held_out_parcels]
    by_teacher = [lab.scores_of_random_teacher(seed) for seed in range(lab.sizes.random_teachers)]
    sample = f"{lab.sizes.held_out} + {lab.sizes.held_out} parcels"
    for name in by_teacher[0]:
        rows = [
            _auroc(f"  random teacher {seed}, {name}", labels, scores[name], sample, (0, 1))
            for seed, scores in enumerate(by_teacher)
        ]
        yield from rows
        figures = [row.figure for row in rows]
        mean, deviation = np.mean(figures), np.std(figures, ddof=1)
        bounds = (0.55, 0.75) if name == "kd" else (0, 1)
        title = f"6 random teachers, {name}: mean, and a deviation to each side"
        yield Row(title, mean, (mean - deviation, mean + deviation), f"{len(rows)} teachers", bounds)


CRITERIA: dict[str, Callable[["Lab"], Iterator[Row]]] = {
    "boxes": boxes,
    "contents": contents,
    "statistics": statistics,
    "supervised": supervised,
    "random": random,
}


class Lab:
    """One set of parcels at the CPU's budget, and what trains networks on it."""

    def __init__(self, seed: int, directory: str, changes: dict[str, int], sizes: Sizes = FULL_SIZES):
        """Makes nothing yet.

        Args:
            changes: to the settings, by dotted name.
            sizes: on how much to measure; the criteria are about the full ones.
        """
        from brittle_jax.devices import DeviceGroup
        from brittle_jax.loop import Loop
        from brittle_jax.recipes import densenet_row

        config = densenet_row("xray_random", "cpu", data="xray", teacher="random")
        config.data.dir = directory
        config.data.parcels.num_normal = config.data.parcels.num_threat = sizes.train + sizes.held_out
        config.data.parcels.seed = seed
        config.update_from_flattened_dict(changes)
        self.config, self.sizes = config, sizes
        starts = np.array([0, sizes.train + sizes.held_out])[:, None]  # of the normal parcels and of the threats
        self.training_parcels = (starts + np.arange(sizes.train)).ravel()
        self.held_out_parcels = (starts + sizes.train + np.arange(sizes.held_out)).ravel()
        self.loop = Loop(DeviceGroup(), 64)

    @functools.cached_property
    def parcels(self) -> Any:
        """All parcels, normal ones first."""
        from brittle_jax.data.datasets.loading import load
        from brittle_jax.run.settings import data_of

        return load("xray", data_of(self.config, "xray"))

    def empty_boxes(self, count: int) -> Any:
        """Returns boxes with nothing in them, as a `Dataset`."""
        from brittle_jax.data.datasets.image_sets import Source, patch_set
        from brittle_jax.data.preprocess import decode, encode_png
        from brittle_jax.run.settings import data_of

        settings = data_of(self.config, "xray")
        draw = joblib.delayed(_empty_box)
        scans = [draw(settings.parcels.seed, index, settings.parcels.side_pixels) for index in range(count)]
        examples = [
            {"id": b"%d" % index, "label": 0, **{view: encode_png(image) for view, image in views.items()}}
            for index, views in enumerate(joblib.Parallel(n_jobs=-1)(scans))
        ]
        source = Source(
            count,
            lambda positions: [examples[position] for position in positions],
            lambda position, view, side: decode(examples[position][view], side),
        )
        views = {view: view for view in ("top", "side")}
        return patch_set(("box",), source, views, settings.patches, synthetic=True)

    def scores_of_random_teacher(self, seed: int) -> dict[str, np.ndarray]:
        """Returns the scores of the held-out parcels by each detector of a random teacher."""
        from brittle_jax.apply import detector
        from brittle_jax.data.one_class import Configuration
        from brittle_jax.evaluate.samples import sample_scores
        from brittle_jax.run.detection import make_detector
        from brittle_jax.run.row import Row as RunRow
        from brittle_jax.run.settings import random_teacher

        config, dataset, test = self.config.copy_and_resolve_references(), self.parcels, self.held_out_parcels
        config.seed = seed
        config.distill.update_steps = self.sizes.student_updates
        config.distill.batch_size, config.distill.learning_rate = 16, 2e-4
        train, labels = np.arange(self.sizes.random_train), dataset.samples.labels[test]
        configuration = Configuration("soc", "all", train, np.arange(0), test, labels, num_normal=len(train))
        stage = lambda name: contextlib.nullcontext()  # noqa: E731
        row = RunRow(config, dataset, None, random_teacher(config), self.loop, stage, folder=None, made_from={})
        made = make_detector(row, configuration)
        images = dataset.images_of(test)
        image_scores = detector.score(made.detector, dataset.images, images, self.loop, made.representations)
        return sample_scores(dataset, images, image_scores, test)

    def rotations(self, dataset: Any, train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        """Returns which share of the four rotations of each held-out image the small network recognises, [M]."""
        from brittle_jax.inference import pass_over

        network, task = self.train("rotnet", dataset, train, num_epochs=3.0)
        correct = np.empty(len(held_out))

        def take(chosen: slice, values: np.ndarray) -> None:
            correct[chosen] = values[: chosen.stop - chosen.start]

        pass_over(dataset.images, held_out, _recognised, network, self.loop, "rotations", take, static=(task,))
        return correct

    def train(self, task_name: str, dataset: Any, train: np.ndarray, *, num_epochs: float, **changes: Any) -> Any:
        """Returns the small network, trained on some images, and its task."""
        from brittle_jax.auxiliary import build_task
        from brittle_jax.models.network import Network
        from brittle_jax.run.settings import network_of
        from brittle_jax.teachers.pretraining import Recipe, pretraining

        fields = self.config.pretrain.to_dict() | {
            "batch_size": 64,
            "peak_learning_rate": 0.1,
            "num_epochs": num_epochs,
            "warmup_epochs": num_epochs / 5,
        }
        recipe = Recipe(**fields | changes)
        task = build_task(task_name, recipe, 2)
        module = task.build_module(network_of(self.config).architecture, 0, dataset.images.shape)
        work = pretraining(
            task,
            module,
            dataset.images,
            train,
            dataset.labels_of(train),
            recipe,
            trunk=None,
            seed=0,
            seed_name=task_name,
            owner="",
            training_dtype="float32",
            devices=self.loop.devices,
        )
        return Network(module, self.loop.run(work).variables), task


def _recognised(task: Any, network: Any, batch: dict[str, Any]) -> Any:
    from brittle_jax.data.preprocess import to_unit_range

    inputs, targets = task.prepare(to_unit_range(batch["image"]), batch["label"], None)
    return task.metrics(network(inputs), targets)["accuracy"].reshape(4, -1).mean(axis=0)


def _empty_box(seed: int, index: int, side_pixels: int) -> dict[str, np.ndarray]:
    from brittle_jax.data.parcels.packing import Parcel, pack
    from brittle_jax.data.parcels.scanner import scan

    rng = np.random.default_rng([seed, 2, index])
    parcel = pack(rng, is_threat=False)
    walls = [solid for solid in parcel.solids if "cardboard" in (solid.material, solid.displaces)]
    scans = scan(rng, Parcel(parcel.size, walls), side_pixels=side_pixels)
    return {view: scanned.image for view, scanned in scans.items()}


def _linear_rotations(dataset: Any, train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Returns the share of rotations that a linear classifier of 28×28 pixels recognises of each held-out image."""
    from PIL import Image
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def rotated(indices: np.ndarray) -> np.ndarray:  # [4, M, pixels]
        images = map(Image.fromarray, map(dataset.images.read, indices))
        small = [image.resize((28, 28), Image.Resampling.BOX) for image in images]
        pixels = np.stack([np.asarray(image, np.float32) for image in small])
        return np.stack([np.rot90(pixels, turns, axes=(1, 2)).reshape(len(pixels), -1) for turns in range(4)])

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    classifier.fit(np.concatenate(rotated(train)), np.repeat(np.arange(4), len(train)))
    turned = [classifier.predict(pixels) == turns for turns, pixels in enumerate(rotated(held_out))]
    return np.mean(turned, axis=0)


def statistics_of(views: Sequence[np.ndarray]) -> tuple[dict[str, float], np.ndarray]:
    """Returns what could give a parcel away without looking at shapes.

    Args:
        views: both pictures, [H, W, 3] uint8 each.

    Returns:
        Single statistics, by name; and the shares of the pixels in 64 colours, [64].
    """
    pixels = np.concatenate([view.reshape(-1, 3) for view in views]).astype(int)
    red, green, blue = pixels.T
    colour = red // 64 * 16 + green // 64 * 4 + blue // 64
    single = {
        "mean red": red.mean(),
        "mean green": green.mean(),
        "mean blue": blue.mean(),
        "darkest pixel": pixels.sum(axis=1).min(),
        "share of metal": (blue - red > 60).mean(),
        "share of dark": (pixels.sum(axis=1) < 240).mean(),
        "share of objects": (pixels < 235).any(axis=1).mean(),
        "area": len(pixels),
    }
    return single, np.bincount(colour, minlength=64) / len(pixels)


def cross_validated(labels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Returns the log odds [N] that a logistic regression gives to parcels that it has not seen, ten-fold.

    Args:
        labels: [N], 0 or 1.
        features: [N, F], which are standardised.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    return cross_val_predict(classifier, features, labels, cv=folds, method="decision_function")


def _accuracy(name, dataset, images, correct, sample, bounds) -> Row:
    """Returns the mean of `correct` [M] with its interval over samples."""
    _, sample_of_image = np.unique(dataset.sample_of_image[images], return_inverse=True)
    hits, counts = np.bincount(sample_of_image, correct), np.bincount(sample_of_image)
    drawn = np.random.default_rng(0).integers(len(hits), size=(_BOOTSTRAPS, len(hits)))
    low, high = np.percentile(hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return Row(name, correct.mean(), (low, high), sample, bounds)


def _auroc(name, labels, scores, sample, bounds) -> Row:
    from brittle_jax.evaluate.metrics import auroc_interval, separation

    interval = auroc_interval(labels, scores, num_samples=_BOOTSTRAPS, seed=0)
    return Row(name, separation(labels, scores)["auroc"], interval, sample, bounds)


def _change(text: str) -> tuple[str, int]:
    """Reads a whole-number setting and its value."""
    from brittle_jax.config import flatten, get_base_config

    name, _, value = text.partition("=")
    is_number = type(flatten(get_base_config()).get(name)) is int
    if not (name.startswith("data.") and is_number and value.isascii() and value.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: give NAME=NUMBER, such as data.patches.size_pixels=64")
    return name, int(value)


def main() -> None:
    """Reads the command line, measures, and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=100, help="of the parcels")
    parser.add_argument("--dir", default="", help="tfds folder that keeps the parcels (default: tfds's own)")
    parser.add_argument("--only", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument(
        "--set", nargs="*", default=[], type=_change, metavar="NAME=NUMBER", help="other settings of the data"
    )
    arguments = parser.parse_args()
    from brittle_jax import runtime
    from brittle_jax.data.parcels import VERSION

    runtime.set_up()
    lab = Lab(arguments.seed, arguments.dir, dict(arguments.set))
    print(f"Embedded parcels, version {VERSION}, seed {arguments.seed}\n")
    print("| criterion | figure | 95% interval | on | must be | holds |\n|---|---|---|---|---|---|")
    for name in arguments.only:
        for row in CRITERIA[name](lab):
            low, high = row.bounds
            verdict = "" if row.bounds == (0, 1) else "yes" if low <= row.figure <= high else "**no**"
            bounds = f"{low:g} to {high:g}" if verdict else ""
            interval = "[{:.3f}, {:.3f}]".format(*row.interval)
            print(f"| {row.name} | {row.figure:.3f} | {interval} | {row.sample} | {bounds} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
