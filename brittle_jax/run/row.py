"""What all configurations of a row share."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections

from brittle_jax import checkpoint, console
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.one_class import Configuration
from brittle_jax.inference import Representations
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, NetworkSettings, Variables, digest_of, init_variables
from brittle_jax.rows import MOST_BYTES_IN_MEMORY
from brittle_jax.run import settings
from brittle_jax.run.progress import Progress
from brittle_jax.seeding import derive_seed
from brittle_jax.teachers.kind import Kind

# Folders and suffixes.
_RESULT_FILES = (
    ("scores", ".csv"),
    ("calibration", ".csv"),
    ("calibration", ".json"),
    ("heat_maps", ".json"),
    ("brittleness", ".npz"),
    ("examples", ".json"),
)

Stage = Callable[[str], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set and one kind of teacher, in a run or in an estimate of one.

    Attributes:
        config: all settings.
        dataset: the anomaly-detection data.
        lessons: what the teacher learns from; None: nothing.
        kind: of the teacher.
        loop: runs whatever takes long; of a row `within` a configuration, what is of this configuration alone.
        stage: `with stage("distill"):` counts the block as part of a stage.
        folder: where networks are kept; None: they are not.
        made_from: what networks depend on, kept beside each.
        configurations: that the row has, in their order.
        progress: what the row has done so far; None: nothing is kept of it.
        check_folder: raises UserError if the folder has vanished; called before anything is written there.
        shared_loop: runs what configurations share; None: `loop` does.
        is_reference: whether this random teacher stands beside the row's own.
        shared: what configurations share, by name.
        most_bytes_in_memory: of representations, and of errors; larger ones are in temporary files.
        recipe: settings of the row's full recipe; None: they are its own.
    """

    config: ml_collections.ConfigDict
    dataset: Dataset
    lessons: Dataset | None
    kind: Kind
    loop: Loop
    stage: Stage
    folder: pathlib.Path | None
    made_from: dict[str, Any]
    configurations: Sequence[Configuration] = ()
    progress: Progress | None = None
    check_folder: Callable[[], None] = lambda: None
    shared_loop: Loop | None = None
    is_reference: bool = False
    shared: dict[str, Any] = dataclasses.field(default_factory=dict)
    most_bytes_in_memory: int = MOST_BYTES_IN_MEMORY
    recipe: ml_collections.ConfigDict | None = None

    @property
    def network(self) -> NetworkSettings:
        """Which networks teacher and student are."""
        return settings.network_of(self.config)

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become images."""
        return settings.preprocessing_of(self.config)

    @property
    def teacher_is_shared(self) -> bool:
        """Whether all configurations have the same teacher."""
        return self.kind.is_shared and not self.is_reference

    @property
    def datasets(self) -> list[Dataset]:
        """The data sets that the row reads."""
        return [self.dataset] if self.lessons in (None, self.dataset) else [self.dataset, self.lessons]

    @property
    def teacher_loop(self) -> Loop:
        """Runs what is of the teacher alone."""
        return self.shared_loop if self.shared_loop is not None and self.teacher_is_shared else self.loop

    def kept_in(
        self,
        folder: pathlib.Path,
        made_from: dict[str, Any],
        loop: Loop,
        check_folder: Callable[[], None] = lambda: None,
    ) -> "Row":
        """Returns the same row, whose networks and progress are kept in a folder, and which runs in another loop."""
        progress = Progress(folder, made_from, check_folder)
        loop = loop.kept_in(progress.shared)
        return dataclasses.replace(
            self,
            loop=loop,
            shared_loop=loop,
            folder=folder,
            made_from=made_from,
            progress=progress,
            check_folder=check_folder,
        )

    def within(self, configuration: Configuration) -> "Row":
        """Returns the same row, whose loop keeps works of a configuration apart."""
        if self.progress is None:
            return self
        return dataclasses.replace(self, loop=self.loop.kept_in(self.progress.works_of(configuration.name)))

    def finished(self, configuration: Configuration) -> dict[str, Any] | None:
        """Returns the entry of a configuration in results.json; None if it is not finished, or not all of it sound."""
        if self.progress is None:
            return None
        networks = [self.folder_of(configuration, name) for name in ("teacher", "student", "detector")]
        return self.progress.entry(configuration.name, networks)

    def finish(self, configuration: Configuration, entry: dict[str, Any]) -> dict[str, Any]:
        """Keeps the entry of a configuration whose files are all written; returns it as `finished` does."""
        if self.progress is None:
            return entry
        written = [self.folder / kind / f"{configuration.name}{suffix}" for kind, suffix in _RESULT_FILES]
        return self.progress.finish(configuration.name, entry, [file for file in written if file.exists()])

    def reference(self) -> "Row":
        """Returns the same row with a random teacher, to stand beside it."""
        kind = settings.random_teacher(self.config)
        return dataclasses.replace(self, lessons=None, kind=kind, is_reference=True, shared={})

    def remember(self, configuration: Configuration, what: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns of the teacher, ready for JSON; a run that goes on does not make it again."""
        return self._remember(None if self.teacher_is_shared else configuration.name, what, make)

    def remember_own(self, configuration: Configuration, what: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns of the configuration alone, as `remember` does of its teacher."""
        return self._remember(configuration.name, what, make)

    def _remember(self, owner: str | None, what: str, make: Callable[[], Any]) -> Any:
        return make() if self.progress is None else self.progress.remember(what, owner, make)

    def share(self, what: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns; if configurations share the teacher, it is made once."""
        if not self.teacher_is_shared:
            return make()
        if what not in self.shared:
            self.shared[what] = make()
        return self.shared[what]

    def folder_of(self, configuration: Configuration, name: str) -> pathlib.Path | None:
        """Returns where a network of a configuration is kept, such as its "student"; None: nowhere."""
        if self.folder is None:
            return None
        owner = "" if name == "teacher" and self.teacher_is_shared else configuration.name
        return self.folder / "checkpoints" / owner / name

    def obtain_teacher(self, configuration: Configuration) -> tuple[Network, dict[str, Any]]:
        """Returns the frozen teacher, and what is known about it; from the row's folder if it is there already."""
        module = self.network.module
        # The draw of the head, and of all of a random teacher, is never the student's: their purposes differ.
        seed = derive_seed(settings.teacher_seed(self.config), "teacher", "weights")
        drawn = Network(module, init_variables(module, seed, self.dataset.images.shape))
        folder = self.folder_of(configuration, "teacher")

        def obtain() -> tuple[Variables, dict[str, Any]]:
            return self.kind.obtain(drawn, self.dataset, self.lessons, configuration, self.teacher_loop)

        if folder is None:  # where configurations that share the teacher would find it
            variables, description = self.share("teacher", obtain)
        elif (recovered := checkpoint.recover(folder, drawn.variables)) is not None:
            console.say("  teacher: finished before, read back")
            variables, description = recovered
        else:
            variables, description = obtain()
            self.check_folder()
            checkpoint.save(folder, variables, description, self.made_from)
            self.teacher_loop.forget("pretrain")
        return Network(module, variables), description

    def obtain_student(
        self,
        configuration: Configuration,
        teacher: Network,
        num_updates: int,
        distil: Callable[[], tuple[Network, list[dict[str, Any]]]],
    ) -> tuple[Network, list[dict[str, Any]]]:
        """Returns a teacher's student and its course, distilled if the row's folder does not have it already."""
        folder = self.folder_of(configuration, "student")
        if folder is None:
            return distil()
        module = self.network.student_module
        like = jax.eval_shape(lambda: init_variables(module, 0, self.dataset.images.shape))
        description = {"update_steps": num_updates, "teacher_sha256": digest_of(teacher.variables)}
        if (recovered := checkpoint.recover(folder, like)) is not None:
            variables, found = recovered
            if found.get("teacher_sha256", description["teacher_sha256"]) == description["teacher_sha256"]:
                console.say("  student: finished before, read back")
                return Network(module, variables), found.get("course", [])
            # A teacher that was made anew on another machine differs by rounding, which training magnifies.
            console.warn(f"{folder} is the student of another teacher: it is distilled anew")
        student, course = distil()
        self.check_folder()
        checkpoint.save(folder, student.variables, description | {"course": course}, self.made_from)
        self.loop.forget("distill")
        return student, course

    def representations_of(self, configuration: Configuration, teacher: Network) -> Representations:
        """Returns the teacher's outputs; if configurations share it, with those that earlier ones asked for."""

        def make() -> Representations:
            configurations = (self.configurations if self.teacher_is_shared else ()) or (configuration,)
            return Representations(
                teacher,
                self.dataset.images,
                self.teacher_loop,
                self.folder,
                most_bytes_in_memory=self.most_bytes_in_memory,
                groups=[
                    self.dataset.images_of(role)
                    for each in configurations
                    for role in (each.train, each.test, each.calibration)
                ],
            )

        return self.share("representations", make)
