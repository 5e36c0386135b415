"""Chooses a teacher and a detector for your own normal images, without a single anomaly.

    python -m brittle_jax.choose --images=DIR --out=DIR

Each candidate teacher is distilled on the same images, and measured: by synthetic anomalies, which decide, by
brittleness, by rotations, and by how its scores spread. The answer is a table, a page, and a trained detector, ready
for brittle_jax.score. If the run is stopped, the same command continues it. Settings for all candidates come after --,
such as -- --config.distill.num_epochs=5. With real anomalies in folders below --anomalies=DIR, one for each kind, the
page says how well each candidate would have done; the choice does not depend on them.
"""

import os
import pathlib
import re
import shlex
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

from brittle_jax import command_line, console, files
from brittle_jax.data.datasets.listing import NORMAL, find_pictures
from brittle_jax.errors import UserError
from brittle_jax.recipes import lite_is_installed
from brittle_jax.text import nearest, split_list

# Candidates by name: the word of configs/image_folder.py, and settings of its own.
_CANDIDATES: dict[str, tuple[str, dict[str, str]]] = {
    "imagenet_lite": ("imagenet_lite", {}),
    "imagenet_lite-middle": ("imagenet_lite", {"network.levels": "stage2,stage3,stage5"}),
    "rotnet": ("rotnet", {}),
    "autoencoder": ("autoencoder", {}),
    "denoising": ("denoising", {}),
    "simclr": ("simclr", {}),
    "random": ("random", {}),
}
_REFERENCE = "random"
_WEIGHTS = (".pth", ".safetensors")
# Settings that a candidate takes over from a run whose teacher it borrows.
_OF_THE_TEACHER = (
    "teacher.task",
    "teacher.data",
    "data.image_size_pixels",
    "network.name",
    "network.levels",
    "network.output_features",
)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    texts = {
        "images": "folder of normal images, or one that holds them in `normal`",
        "out": "folder for the runs, choose.json and the page",
        "anomalies": "folder of real anomalies, one folder for each kind; they do not change the choice",
        "teachers": f"comma-separated candidates, or folders of finished runs (default: {','.join(_CANDIDATES)})",
        "budget": "time for all candidates together, such as 10m or 2h; the costliest are dropped",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=flag_values)
    numbers = {
        "most_images": (300, "most held-back images to choose by, and as many to test on", 10),
        "students": (1, "students to distil of each candidate, to see how brittleness varies", 1),
        "seed": (0, "seed of splits, networks and synthetic anomalies", 0),
    }
    for name, (default, text, lowest) in numbers.items():
        flags.DEFINE_integer(name, default, text, lower_bound=lowest, flag_values=flag_values)


def main(arguments: command_line.Arguments) -> None:
    """Chooses, and says what was chosen."""
    given = arguments.flags
    images, out, names, budget = _checked(arguments)
    anomalies = kinds_of(given["anomalies"])
    settings = configured(names, arguments.overrides, out)
    # These imports take seconds, so they wait until the choice is known to be possible.
    from brittle_jax import runtime

    runtime.set_up()
    from brittle_jax.report import choice_page
    from brittle_jax.run import candidates as candidates_lib
    from brittle_jax.run import choice

    candidates = [
        candidates_lib.Candidate(name, config, is_reference=config.teacher.task == _REFERENCE, command=command)
        for name, config, command in settings
    ]
    content = choice.choose(
        candidates,
        linked(images, out),
        out,
        anomalies=anomalies,
        budget_seconds=budget,
        most_pictures=given["most_images"],
        num_students=given["students"],
        seed=given["seed"],
    )
    console.say(choice_page.table(content))
    console.say(f"page: {choice_page.write_page(out, content)}")
    if any(each["num_skipped"] for each in content["candidates"]):
        sys.exit(command_line.EXIT_SKIPPED_INPUTS)


def _checked(arguments: command_line.Arguments) -> tuple[pathlib.Path, pathlib.Path, list[str], float | None]:
    """Returns the images, the folder of the choice, the names of the candidates, and the budget in seconds."""
    given = arguments.flags
    if arguments.words:
        raise UserError(f"{arguments.words[0]!r} is a stray argument: write every setting as --name=value")
    for name, what in {"images": "a folder of normal images", "out": "a folder for the choice"}.items():
        if not given[name]:
            raise UserError(f"--{name} is missing: name {what}")
    images, out = normal_images(given["images"]), pathlib.Path(os.path.expanduser(given["out"]))
    if out.resolve().is_relative_to(images):
        raise UserError(f"--out={out} is inside of --images={given['images']}: name a folder elsewhere")
    names = _installed() if given["teachers"] is None else split_list(given["teachers"])
    if len(set(names)) < len(names) or not names:
        raise UserError(f"--teachers={given['teachers']}: name each candidate once")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", given["budget"] or "0s")
    if match is None or (given["budget"] and not float(match[1])):
        raise UserError(f"--budget={given['budget']} is not a time: give one such as 10m or 2h")
    return images, out, names, float(match[1]) * _UNITS[match[2]] if given["budget"] else None


def _installed() -> list[str]:
    """Returns the default candidates, without those that need an extra which is not installed."""
    if lite_is_installed():
        return list(_CANDIDATES)
    console.warn("imagenet_lite is left out: to try it, run python -m pip install 'brittle-jax[imagenet]'")
    return [name for name, (word, _) in _CANDIDATES.items() if word != "imagenet_lite"]


def configured(names: list[str], overrides: Sequence[str], out: pathlib.Path) -> list[tuple[str, ConfigDict, str]]:
    """Returns each candidate's name and settings, and the command that trains it alone, as a shell takes it."""
    found = []
    for given in names:
        name, word, own = _candidate(given)
        settings = [f"--config.{field}={value}" for field, value in own.items()]
        config = command_line.configure(f"image_folder:{word}", [*settings, *overrides])[1]
        config = config.copy_and_resolve_references().unlock()
        config.teacher.store = str(out / "teachers")
        command = ["python", "-m", "brittle_jax.main", f"--config=configs/image_folder.py:{word}"]
        command += [f"--config.data.path={out / 'pictures'}", *settings, *overrides]
        found.append((name, config, shlex.join(command)))
    return found


def _candidate(given: str) -> tuple[str, str, dict[str, object]]:
    """Returns a candidate's name, the word of its config, and its own settings."""
    path = pathlib.Path(os.path.expanduser(given))
    if given in _CANDIDATES:
        return given, *_CANDIDATES[given]
    if path.suffix in _WEIGHTS and path.is_file():
        return f"weights-{path.stem}", "224-imagenet", {"teacher.weights": path, "teacher.weights_sha256": ""}
    if (path / "config.json").is_file():
        lent = files.read_json(path / "config.json")
        own = {field: lent[field] for field in _OF_THE_TEACHER if field in lent}
        return f"run-{path.name}", str(own.get("teacher.task", "")), {**own, "teacher.from_run": path}
    hint = nearest(given, list(_CANDIDATES))
    raise UserError(
        f"{given!r} is neither a candidate ({', '.join(_CANDIDATES)}), nor a file of weights, nor a finished run{hint}"
    )


def normal_images(given: str) -> pathlib.Path:
    """Returns the absolute path of the folder of normal images: `normal` in the given one, or that itself."""
    images = pathlib.Path(os.path.expanduser(given))
    if not images.is_dir():
        raise UserError(f"--images={given}: no such folder")
    images = (images / NORMAL if (images / NORMAL).is_dir() else images).resolve()
    found = find_pictures(images, images)
    if not found:
        raise UserError(f"--images={given} holds no pictures")
    folders = sorted({file.relative_to(images).parts[0] for file in found if file.parent != images})
    if folders:
        console.warn(f"--images={given}: images in its folders are taken as normal, too: {', '.join(folders)}")
    return images


def linked(images: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Returns a folder in which `normal` is a link to the images, so that nothing beside them is read.

    Args:
        images: folder of normal images, an absolute path.
        out: folder of the choice. The link of an attempt that ran no candidate is replaced.
    """
    pictures = out / "pictures"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        link = pictures / NORMAL
        if link.is_symlink() and not (out / "candidates").exists():
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(images, target_is_directory=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({error.strerror}): name another folder") from None
    if link.resolve() != images:
        raise UserError(f"--out={out} is a choice for {link.resolve()}: name another folder for these images")
    return pictures


def kinds_of(given: str | None) -> dict[str, list[pathlib.Path]]:
    """Returns the files of each kind of anomaly: by folder below the one given, or all of it."""
    if not given:
        return {}
    folder = pathlib.Path(os.path.expanduser(given))
    if not folder.is_dir():
        raise UserError(f"--anomalies={given}: no such folder")
    found: dict[str, list[pathlib.Path]] = {}
    for file in find_pictures(folder, folder):
        parts = file.relative_to(folder).parts
        found.setdefault(parts[0] if len(parts) > 1 else folder.name, []).append(file)
    if not found:
        raise UserError(f"--anomalies={given} holds no pictures")
    return dict(sorted(found.items()))


if __name__ == "__main__":
    command_line.run(main, define_flags, needs_config=False, takes_rows=True)
