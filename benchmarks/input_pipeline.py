"""Compares the speed of reading images with that of a PyTorch DataLoader, and measures memory as a data set grows.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --memory

All images are random, in a folder that is removed at the end. Needs the extra `reference`. A data set of at most 256
MiB is decoded once and kept, which a DataLoader does not do; its rate is measured after the first pass.
"""

import argparse
import collections
import functools
import itertools
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from brittle_jax.config import get_base_config
from brittle_jax.data import patches, preprocess
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.images import Images
from brittle_jax.data.pipeline import training_reader
from brittle_jax.data.settings import DataSettings
from brittle_jax.run.settings import data_of

_BATCH_SIZE = 64
_ROUNDS = 5
_SECONDS_PER_ROUND = 5.0
_NUM_WORKERS = 2  # of the DataLoader; the table has the faster of this and 0


def write_pictures(folder: pathlib.Path, count: int, side: int, suffix: str) -> None:
    """Writes smooth random pictures, which compress like photographs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(rng.integers(0, 256, (max(side // 8, 2),) * 2 + (3,), np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:06d}.{suffix}")


def settings_for(root: pathlib.Path, name: str, side: int, path: str = "") -> DataSettings:
    """Returns settings for `load` to read a data set with images of `side` pixels."""
    config = get_base_config()
    config.data.name, config.data.dir, config.data.stand_in, config.data.path = name, str(root / "data"), True, path
    config.data.image_size_pixels = side
    config.data.parcels.num_normal, config.data.parcels.num_threat = 60, 4
    (root / "data").mkdir(exist_ok=True)
    return data_of(config, name)


def torch_file_reader(files: list[pathlib.Path], side: int) -> Callable[[int], np.ndarray]:
    """Returns a function that reads an image file as a PyTorch user would: open, convert to RGB, resize."""

    def read(index: int) -> np.ndarray:
        with Image.open(files[index]) as image:
            image = image.convert("RGB")
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.BILINEAR)
            return np.asarray(image)

    return read


def torch_parcel_reader(dataset: Dataset, folder: pathlib.Path) -> Callable[[int], np.ndarray]:
    """Returns a function that reads a patch of a scan from a file: open, cut, pad with air. Boxes are given."""
    folder.mkdir()
    for sample in range(len(dataset.samples)):
        for view in range(len(dataset.views)):
            (folder / f"{sample}_{view}.png").write_bytes(preprocess.encode_png(dataset.read_view(sample, view)))
    boxes = collections.defaultdict(list)
    for image, box in enumerate(dataset.box_of_image):
        boxes[dataset.sample_of_image[image], dataset.view_of_image[image]].append(box)
    whole = {key: np.concatenate([np.min(all_of, 0)[:2], np.max(all_of, 0)[2:]]) for key, all_of in boxes.items()}

    def read(index: int) -> np.ndarray:
        key = dataset.sample_of_image[index], dataset.view_of_image[index]
        with Image.open(folder / f"{key[0]}_{key[1]}.png") as image:
            picture = np.asarray(image.convert("RGB"))
        inside = np.clip(whole[key], 0, [*picture.shape[:2], *picture.shape[:2]]).tolist()
        return patches.cut_patch(picture, inside, dataset.box_of_image[index][:2], dataset.images.shape[0])

    return read


def brittle_jax_batches(images: Images) -> Iterator[int]:
    """Yields the size of each batch of the training loop."""
    reader = training_reader(images, np.arange(len(images)), _BATCH_SIZE, seed=0)
    for number in itertools.count():
        yield len(reader(number)["image"])


def torch_batches(read: Callable[[int], np.ndarray], count: int, num_workers: int) -> Iterator[int]:
    """Yields the size of each batch of a DataLoader."""
    import torch

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> "torch.Tensor":
            return torch.from_numpy(read(index).copy())

    loader = torch.utils.data.DataLoader(
        Pictures(),
        batch_size=_BATCH_SIZE,
        shuffle=True,
        num_workers=num_workers,
        drop_last=True,
        persistent_workers=num_workers > 0,
    )
    while True:
        for batch in loader:
            yield len(batch)


def images_per_second(batches: Iterator[int]) -> float:
    """Returns the rate over some seconds, without the first batch."""
    next(batches)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < _SECONDS_PER_ROUND:
        count += next(batches)
    return count / elapsed


def compare(name: str, images: Images, read: Callable[[int], np.ndarray]) -> None:
    """Prints the rates of brittle_jax and the DataLoader, medians of alternating rounds."""
    count = len(images)
    sources = {
        "brittle_jax": functools.partial(brittle_jax_batches, images),
        "0": functools.partial(torch_batches, read, count, 0),
        str(_NUM_WORKERS): functools.partial(torch_batches, read, count, _NUM_WORKERS),
    }
    rates = {source: [] for source in sources}
    for _ in range(_ROUNDS):
        for source, make_batches in sources.items():  # new ones each time, so that nothing is prefetched between rounds
            rates[source].append(images_per_second(make_batches()))
    rate = statistics.median(rates.pop("brittle_jax"))
    torch_rate, workers = max((statistics.median(values), each) for each, values in rates.items())
    print(f"{name:<40}{rate:>12.0f}{torch_rate:>14.0f} ({workers} workers){rate / torch_rate:>9.2f}", flush=True)


def compare_all(root: pathlib.Path) -> None:
    """Prints the table."""
    print(f"{'images per second':<40}{'brittle_jax':>12}{'DataLoader':>26}{'ratio':>9}")
    images = load("cifar10", settings_for(root, "cifar10", 32)).images
    files = []
    (root / "cifar10").mkdir()
    for index in range(len(images)):
        files.append(root / "cifar10" / f"{index}.png")
        files[-1].write_bytes(preprocess.encode_png(images.read(index)))
    compare("CIFAR-10's format, kept", images, torch_file_reader(files, 32))

    write_pictures(root / "own" / "normal", 2000, 256, "jpg")
    files = sorted((root / "own" / "normal").iterdir())
    for side, kept in (
        (64, "kept"),
        (224, "decoded each time"),
    ):  # 24 MB fit into what is kept in memory, 301 MB do not
        own = load("image_folder", settings_for(root, "image_folder", side, str(root / "own"))).images
        compare(f"JPEG, 256 to {side} pixels, {kept}", own, torch_file_reader(files, side))

    parcels = load("xray", settings_for(root, "xray", 0))
    compare("patches of 224, parcels of 448, kept", parcels.images, torch_parcel_reader(parcels, root / "scans"))


def measure_memory(root: pathlib.Path, count: int) -> None:
    """Prints the peak memory of preparing and of reading a folder of `count` images, in a process each."""
    write_pictures(root / "own" / "normal", count, 24, "png")
    for what in ("preparing", "reading"):
        command = [sys.executable, __file__, "--child", what, str(root)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
        print(f"{what} {count} pictures: peak {printed} MiB", flush=True)


def child(what: str, root: pathlib.Path) -> None:
    """Prepares a data set, or reads a thousand batches, and prints the peak memory of this process."""
    images = load("image_folder", settings_for(root, "image_folder", 32, str(root / "own"))).images
    if what == "reading":
        for _, _ in zip(range(1000), brittle_jax_batches(images), strict=False):
            pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of speed")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], pathlib.Path(arguments.child[1]))
    for count in (1_000, 10_000, 100_000) if arguments.memory else (None,):
        with tempfile.TemporaryDirectory() as root:
            measure_memory(pathlib.Path(root), count) if count else compare_all(pathlib.Path(root))
    return None


if __name__ == "__main__":
    main()
