"""How fast `python -m brittle_jax.score` scores a folder: decoding, transfer and computing apart, and all together.

    python -m benchmarks.scoring --run=runs/image_folder --images=DIR [--copies=10]

Prints a line of JSON: images a second of each part, beside those of the jitted detector on images that lie on the
device, and the highest memory of the process. With --copies the list of files is repeated, to see whether memory grows.
"""

import argparse
import json
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from brittle_jax import console, runtime
from brittle_jax.apply import scoring
from brittle_jax.apply.loaded import LoadedDetector, load_detector
from brittle_jax.apply.sample_files import list_samples, read_samples
from brittle_jax.data.preprocess import to_unit_range

_LEAST_SECONDS = 3.0


def rate_of(call: Callable[[], int]) -> float:
    """Returns how many images a second a call processes; it is called once before, to compile, then for some time."""
    call()
    start, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < _LEAST_SECONDS:
        count += call()
    return count / seconds


def rates(loaded: LoadedDetector, samples: list, folder: pathlib.Path) -> dict[str, float]:
    """Returns images a second of each part of `score_files`, and of all of it."""
    preprocessing, size = loaded.detector.preprocessing, loaded.batch_size_used

    def decode() -> int:
        read = read_samples(samples, preprocessing, loaded.max_image_pixels, most_ahead=2 * size)
        return sum(len(each.images) for each in read)

    batch = np.random.default_rng(0).integers(0, 256, (size, *preprocessing.image_shape), np.uint8)
    on_device = jax.device_put(batch)
    stacks = [(None, image[None]) for image in batch] * 4
    jitted = jax.jit(lambda detector, images: detector(to_unit_range(images)))

    def transfer() -> int:
        jax.block_until_ready(jax.device_put(batch.copy()))
        return size

    def compute() -> int:
        jax.block_until_ready(jitted(loaded.detector, on_device))
        return size

    def scores() -> int:
        return sum(len(part) for part in loaded.scores_of_images(iter(stacks)))

    def whole() -> int:
        rule = scoring.Rule(loaded.recommended, None)
        return scoring.score_files(loaded, samples, folder / "scores.csv", rule).num_scored

    with console.silenced():
        return {
            "decoding": rate_of(decode),
            "transfer": rate_of(transfer),
            "jitted detector": rate_of(compute),
            "scores without decoding": rate_of(scores),
            "all": rate_of(whole),
        }


def main() -> None:
    """Measures, and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--copies", type=int, default=1, help="above 1: score the files so often, for memory alone")
    arguments = parser.parse_args()
    runtime.set_up()
    loaded, samples = load_detector(arguments.run), list_samples([arguments.images]) * arguments.copies
    with tempfile.TemporaryDirectory() as folder:
        if arguments.copies > 1:
            rule, found = scoring.Rule(loaded.recommended, None), {}
            scoring.score_files(loaded, samples, pathlib.Path(folder) / "scores.csv", rule)
        else:
            found = {name: round(rate, 1) for name, rate in rates(loaded, samples, pathlib.Path(folder)).items()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"images": len(samples), **found, "peak_memory_mib": memory, "batch": loaded.batch_size_used}))


if __name__ == "__main__":
    main()
