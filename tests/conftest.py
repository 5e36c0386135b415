"""Strictness for every test: four CPU devices, no silent rank promotion, warnings are errors."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"

import pathlib

import jax
import ml_collections
import numpy as np
import pytest

from brittle_jax.data.dataset import Dataset
from brittle_jax.data.images import Images
from brittle_jax.data.samples import Samples
from brittle_jax.devices import DeviceGroup
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.recipes import densenet_row, small_resnet_row
from brittle_jax.run import experiment
from tests.mini_network import MINI
from tests.small_runs import shrink

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent.parent / ".pytest_cache/compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

ARCHITECTURES["mini"] = MINI

REAL_DATA = pathlib.Path(__file__).parent.parent.parent / "shared" / "data"


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
def four_devices() -> DeviceGroup:
    return DeviceGroup(tuple(jax.devices()))


@pytest.fixture(scope="session")
def one_device() -> DeviceGroup:
    return DeviceGroup(tuple(jax.devices()[:1]))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """Folder of the made-up data sets, shared by all tests."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def tmp_path(tmp_path):
    """A folder whose neighbours, where a run keeps its teachers, are the test's own too."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


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
    folder = tmp_path_factory.mktemp("small") / "run"
    experiment.run(small_config, folder)
    return folder


@pytest.fixture
def real_tfds() -> str:
    """The tfds folder of the real CIFAR-10 and Fashion-MNIST."""
    if not (REAL_DATA / "tfds").is_dir():
        pytest.skip("the real images are not here")
    return str(REAL_DATA / "tfds")
