"""A teacher that is pre-trained on an auxiliary task: on another data set, or on the normal images alone (Sec. A.1)."""

import dataclasses
import functools
from typing import Any

import numpy as np

from brittle_jax import console
from brittle_jax.auxiliary import build_task
from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.preprocess import data_uri
from brittle_jax.data.splits import Lesson, Splitting, labelled_lesson, limited_lesson, roles
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, NetworkSettings, Variables, check_architecture
from brittle_jax.models.published_weights import sha256_of
from brittle_jax.teachers.kind import Description
from brittle_jax.teachers.pretraining import Recipe, held_out_auroc, held_out_metric, pretraining, reconstructions
from brittle_jax.teachers.published import Weights
from brittle_jax.teachers.store import Identity, TeacherStore, identity_of_lesson, key_of

_NUM_RECONSTRUCTIONS = 8


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """See `Kind`.

    Attributes:
        task_name: one of `auxiliary.TASKS`.
        dataset: name of the data set that it learns from.
        is_own_data: whether that is the anomaly-detection data.
        recipe: of the training.
        weights: of the trunk that it starts from, if the recipe says so.
        network: that is trained.
        seed: of all that its training draws.
        splitting: of the data set that it learns from.
        store: of pre-trained trunks.
        image_settings: what else its images depend on, such as the sizes of parcels and patches; ready for JSON.
    """

    task_name: str
    dataset: str
    is_own_data: bool
    recipe: Recipe
    weights: Weights
    network: NetworkSettings
    seed: int
    image_shape: tuple[int, int, int]
    splitting: Splitting
    store: TeacherStore
    image_settings: Any = None

    @functools.cached_property
    def _example_task(self) -> AuxiliaryTask:
        """The task, for what does not depend on the number of classes."""
        return self._task(num_classes=2)

    def _task(self, num_classes: int) -> AuxiliaryTask:
        return build_task(self.task_name, self.recipe, num_classes)

    @property
    def is_shared(self) -> bool:
        """Unless it learns from the normal images alone."""
        return self.learns_anomalies or not self.is_own_data

    @property
    def keeps_head(self) -> bool:
        """See `Kind`."""
        return self._example_task.keeps_head

    @property
    def learns_anomalies(self) -> bool:
        """See `Kind`."""
        return self._example_task.learns_anomalies

    @property
    def readings(self) -> dict[str, str]:
        """See `Kind`."""
        return {"augmentation": "on the device; RotNet: before turning, the same in all rotations"}

    def check_data(self) -> None:
        """Raises UserError if its data set does not suit its task, whoever trains it."""
        task = self._example_task
        if task.learns_anomalies and not self.is_own_data:
            raise UserError(
                f"teacher.data={self.dataset!r}: the supervised baseline learns the anomaly-detection data itself: "
                "leave teacher.data empty"
            )
        if task.needs_labels and self.is_own_data and not task.learns_anomalies:
            raise UserError(
                f"teacher.task={self.task_name!r} on the anomaly-detection data itself would see anomalies: use "
                "teacher.task='baseline' for that, or another teacher.data"
            )

    def check(self, devices: DeviceGroup) -> None:
        """See `Kind`."""
        task = self._example_task
        network = self.network
        check_architecture(
            network.name, network.output_features, needs_decoder=task.reconstructs, levels=network.levels
        )
        for name in ("crop_padding_pixels", "cutout_pixels"):
            pixels, side = getattr(self.recipe, name), self.image_shape[0]
            if pixels >= side:
                raise UserError(f"pretrain.{name}={pixels}: give less than the side of the images, {side}")
        devices.check_batch_size(self.recipe.batch_size, "pretrain.batch_size", task.views_per_image)
        if self.recipe.from_weights:
            self.weights.check(self.network.name, self.image_shape)

    def check_dataset(self, dataset: Dataset) -> None:
        """See `Kind`."""
        if not self.learns_anomalies:
            return
        assigned = roles(dataset, self.splitting)
        for role, purpose in (("train", "learn from"), ("test", "be tested on")):
            if len(np.unique(dataset.samples.labels[assigned == role])) < 2:
                remedy = "give more anomalous samples, or another data.baseline_fraction"
                if dataset.samples.official_split is not None:
                    remedy = f"mark some of both kinds as {role} in the given split"
                raise UserError(
                    f"the supervised baseline has no two classes of {dataset.name} to {purpose}: {remedy}, or choose "
                    "another teacher.task"
                )

    def lesson(self, lessons: Dataset, configuration: Configuration) -> Lesson:
        """Returns which samples it learns from: of the anomaly-detection data, normal training samples alone.

        The exception is the supervised baseline, which sees all labelled training samples by definition (Sec. 3.3).
        Unlabelled images (STL-10) train the tasks that need no labels.
        """
        recipe, seed = self.recipe, self.splitting.seed
        if self.learns_anomalies:
            return labelled_lesson(
                lessons,
                self.splitting,
                "lesson",
                max_train_samples=recipe.max_train_samples,
                max_test_samples=recipe.max_test_samples,
            )
        if self.is_shared:
            assigned = roles(lessons, self.splitting)
            learned = ("train",) if self._example_task.needs_labels else ("train", "unlabelled")
            train, held_out = np.flatnonzero(np.isin(assigned, learned)), np.flatnonzero(assigned == "test")
        else:
            train = configuration.train
            held_out = configuration.test[configuration.test_labels == 0]
        lesson = Lesson(lessons, train, held_out)
        return limited_lesson(lesson, seed, "lesson", recipe.max_train_samples, recipe.max_test_samples)

    def obtain(
        self, drawn: Network, dataset: Dataset, lessons: Dataset | None, configuration: Configuration, loop: Loop
    ) -> tuple[Variables, Description]:
        """See `Kind`. Trunks come from the store if they are there; a head that is not trained stays as drawn."""
        lesson = self.lesson(lessons, configuration)
        parts = ("trunk", "head") if self.keeps_head else ("trunk",)
        like = {kind: {part: tree[part] for part in parts if part in tree} for kind, tree in drawn.variables.items()}
        owner = "" if self.is_shared else configuration.name
        trained, description = self.store.obtain(
            self.identity(lesson), like, lambda: self._train(lesson, like, owner, loop)
        )
        return {kind: {**tree, **trained[kind]} for kind, tree in drawn.variables.items()}, description

    def identity(self, lesson: Lesson) -> Identity:
        """Returns all that the pre-trained trunk depends on."""
        architecture = self.network.architecture
        return {
            "task": self.task_name,
            "version": self._example_task.version,
            **identity_of_lesson(lesson),
            "parcels": self.image_settings,
            "network": [self.network.name, repr(architecture.trunk), architecture.mean, architecture.std],
            "training_dtype": self.network.training_dtype,
            "bottleneck": self.network.output_features if self.keeps_head else None,
            "pretrain": dataclasses.asdict(self.recipe),
            "initial_weights": sha256_of(self.weights.path) if self.recipe.from_weights else None,
            "seed": self.seed,  # what the splitting's seed decides, the lesson tells
        }

    def _train(self, lesson: Lesson, like: Variables, owner: str, loop: Loop) -> tuple[Variables, Description]:
        """Returns the parts of a network that are kept, and how well it does on images that it has not seen."""
        dataset = lesson.dataset
        task = self._task(len(dataset.samples.classes))
        train, held_out = dataset.images_of(lesson.train), dataset.images_of(lesson.held_out)
        module = task.build_module(self.network.architecture, self.network.output_features, dataset.images.shape)
        work = pretraining(
            task,
            module,
            dataset.images,
            train,
            dataset.labels_of(train),
            self.recipe,
            trunk=self.weights.trunk_like(like) if self.recipe.from_weights else None,
            seed=self.seed,
            seed_name=key_of(self.identity(lesson)),
            owner=owner,
            training_dtype=self.network.training_dtype,
            devices=loop.devices,
        )
        network = Network(module, loop.run(work).variables)
        description = {"num_train_samples": len(lesson.train), "num_held_out_samples": len(lesson.held_out)}
        if task.held_out_metric is not None:
            labels = dataset.labels_of(held_out)
            value = held_out_metric(network, task, dataset.images, held_out, labels, loop)
            shown = f"{100 * value:.2f}%" if task.held_out_metric == "accuracy" else f"{value:.4g}"
            metric = task.held_out_metric.replace("_", " ")
            console.say(f"  held-out {metric} of the teacher at its own task: {shown}")
            description[f"held_out_{task.held_out_metric}"] = value
        if task.reconstructs:
            sheet = reconstructions(network, task, dataset.images, held_out[:_NUM_RECONSTRUCTIONS])
            description["reconstructions"] = data_uri(sheet)
        if task.learns_anomalies and len(dataset.samples.classes) == 2:
            auroc = held_out_auroc(network, dataset, held_out, loop)
            console.say(f"  held-out AUROC of the supervised teacher's own classifier: {100 * auroc:.2f}")
            description["held_out_auroc"] = auroc
        kept = {kind: {part: network.variables[kind][part] for part in tree} for kind, tree in like.items()}
        return kept, description
