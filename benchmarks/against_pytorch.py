"""Speed beside PyTorch on the same work, in alternating rounds, on whatever device is there.

    python -m benchmarks.against_pytorch
    python -m benchmarks.against_pytorch --only step,score --rounds 7 --compile

PyTorch runs eager, channels-last, as it is usually written; `--compile` adds `torch.compile`. Images are made up. A
rate is the median of the rounds, its spread the lowest and the highest. Each of the two has a process of its own. Run
it twice on a new machine: a program that was compiled in the process runs slower there than one from the compilation
cache. The limit of the machine is the rate of a large matrix product, ours or PyTorch's, whichever is faster. Needs the
extra `reference`.
"""

import argparse
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import pytorch_work as theirs
from benchmarks.made_up import image_set, network, pictures
from benchmarks.timing import seconds_of
from brittle_jax import console, inference, runtime
from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.config import get_base_config
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.brittleness import input_gradient_norms
from brittle_jax.evaluate.detectors import distillation_score
from brittle_jax.evaluate.moments import covariance_of, moments_of
from brittle_jax.loop import MetricLog, train
from brittle_jax.models.network import ARCHITECTURES, Network, Representation, computing_in, init_variables
from brittle_jax.student import prepare_distillation
from brittle_jax.train.optimizers import Optimizer, adam, sgd
from brittle_jax.train.steps import create_state, distill_step, pretrain_step

_FEATURES = 128  # of the representation of CIFAR-10's rows
_DISTILLATION_EPOCHS = 2
# Of one image, forward: 379 million multiplications with their additions at 32×32, and 7.7 billion at 224×224.
_RESNET_FLOPS, _DENSENET_FLOPS = 2 * 379.4e6, 2 * 7.73e9
_BATCH_SIZE = 128  # of scoring and input gradients


@dataclasses.dataclass(frozen=True)
class Work:
    """The same work, done by both.

    Attributes:
        title: what is done.
        unit: what is counted, such as images.
        count: how many a call.
        ours, theirs: do it once, and wait for the device; theirs by the name of the way.
        warm_up_calls: before it is timed; one is enough where it makes many updates itself.
        flops: of one call, as the plain convolutions and matrix products have them, two for a multiplication with its
            addition; Winograd's way does with fewer, so a share of the limit can be above one.
    """

    title: str
    unit: str
    count: int
    ours: Callable[[], object]
    theirs: dict[str, Callable[[], object]]
    flops: float
    warm_up_calls: int = 2


def train_step(
    step: Callable,
    module: Representation,
    optimizer: Optimizer,
    variables: dict,
    batch: dict,
    options: theirs.Options,
    static: tuple = (),
) -> Callable[[], object]:
    """Returns what runs one update on a batch, of a state that goes on from call to call."""
    devices = DeviceGroup((jax.devices()[0],))  # PyTorch takes one
    state = devices.replicate(create_state(variables, optimizer, seed=0))
    update = devices.train_step(step, computing_in(module, _dtype(options)), optimizer.tx, *static)

    def run() -> None:
        nonlocal state
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def _dtype(options: theirs.Options) -> str:
    return "bfloat16" if options.bfloat16 else "float32"


def distillation(options: theirs.Options, num_images: int) -> Work:
    """One configuration end to end: ours has the teacher's outputs once, PyTorch at every step, as is usual."""
    images = pictures(num_images, 32)
    indices = np.arange(len(images))
    config = get_base_config()
    config.distill.num_epochs, config.network.training_dtype = _DISTILLATION_EPOCHS, _dtype(options)
    devices, teacher = DeviceGroup((jax.devices()[0],)), network("small_resnet", _FEATURES, 32)

    def ours() -> None:
        given = image_set(images)
        representations = inference.Representations(teacher, given, config.evaluate.batch_size, devices)
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(MetricLog(pathlib.Path(folder))) as log:
            training = prepare_distillation(
                teacher.module, given, indices, representations, config, name="x", devices=devices
            )
            jax.block_until_ready(train(training, log))

    count = len(images) * _DISTILLATION_EPOCHS
    ways = theirs.distillation(images, _FEATURES, _DISTILLATION_EPOCHS, config.distill.batch_size, options)
    title = f"distillation, {num_images:,} images, {_DISTILLATION_EPOCHS} epochs"
    return Work(title, "images", count, ours, ways, (3 * count + num_images) * _RESNET_FLOPS, warm_up_calls=1)


def step(options: theirs.Options) -> Work:
    """One distillation step, the teacher's outputs given."""
    images = pictures(64, 32)
    student = network("small_resnet", _FEATURES, 32)
    targets = np.random.default_rng(1).normal(size=(64, _FEATURES)).astype(np.float32)
    batch = {"image": images, "target": targets}
    ours = train_step(distill_step, student.module, adam(1e-5), student.variables, batch, options)
    ways = theirs.step(images, targets, options)
    return Work("distillation step, batch 64", "images", 64, ours, ways, 3 * 64 * _RESNET_FLOPS)


def score(options: theirs.Options) -> Work:
    """Scoring with student and teacher."""
    images = pictures(2 * _BATCH_SIZE, 32)
    student, teacher = (network("small_resnet", _FEATURES, 32, seed) for seed in (0, 1))

    @jax.jit
    def scores(student: Network, teacher: Network, images: jax.Array) -> jax.Array:
        return distillation_score(student, teacher, to_unit_range(images))

    return Work(
        f"scoring, student and teacher, {len(images)} images",
        "images",
        len(images),
        lambda: [np.asarray(scores(student, teacher, batch)) for batch in np.split(images, 2)],
        theirs.score(images, _FEATURES, options, _BATCH_SIZE),
        2 * len(images) * _RESNET_FLOPS,
    )


def gradient(options: theirs.Options) -> Work:
    """Norms of per-image input gradients."""
    images = pictures(_BATCH_SIZE, 32)
    student, teacher = (network("small_resnet", _FEATURES, 32, seed) for seed in (0, 1))

    @jax.jit
    def norms(student: Network, teacher: Network, images: jax.Array) -> jax.Array:
        return input_gradient_norms(student, teacher, to_unit_range(images))

    return Work(
        f"input-gradient norms, {len(images)} images",
        "images",
        len(images),
        lambda: np.asarray(norms(student, teacher, images)),
        theirs.gradient(images, _FEATURES, options, _BATCH_SIZE),
        3 * len(images) * _RESNET_FLOPS,  # both networks forward, the student backward
    )


def moments(count: int, features: int) -> Work:
    """Mean and covariance of representations, as the Mahalanobis detectors need them."""
    vectors = np.random.default_rng(0).normal(size=(count, features)).astype(np.float32)
    return Work(
        f"mean and covariance, {count:,} x {features}",
        "vectors",
        count,
        lambda: covariance_of(moments_of(vectors)),
        theirs.moments(vectors),
        2.0 * count * features**2,
    )


def densenet(options: theirs.Options) -> Work:
    """DenseNet-161 at 224 pixels, evaluation."""
    images, dense = pictures(8, 224), network("densenet161", 0, 224)

    @jax.jit
    def outputs(network: Network, images: jax.Array) -> jax.Array:
        return network(to_unit_range(images))

    return Work(
        "DenseNet-161 at 224, forward, 8 images",
        "images",
        len(images),
        lambda: np.asarray(outputs(dense, images)),
        theirs.densenet(images, options),
        len(images) * _DENSENET_FLOPS,
    )


def densenet_step(options: theirs.Options) -> Work:
    """DenseNet-161 at 224 pixels: a distillation step, forward and backward."""
    images, dense = pictures(8, 224), network("densenet161", 0, 224)
    batch = {"image": images, "target": np.zeros((8, 2208), np.float32)}
    ours = train_step(distill_step, dense.module, adam(1e-5), dense.variables, batch, options)
    ways = theirs.densenet_step(images, options)
    return Work("DenseNet-161 at 224, distillation step, batch 8", "images", 8, ours, ways, 24 * _DENSENET_FLOPS)


def rotnet(options: theirs.Options) -> Work:
    """A step of RotNet on 32 images, 128 with their rotations."""
    images = pictures(32, 32)
    task = RotNet(Augmentation(crop_padding_pixels=4, flip=False, cutout_pixels=8))
    module = task.build_module(ARCHITECTURES["small_resnet"], _FEATURES, (32, 32, 3))
    batch = {"image": images, "label": np.zeros(32, np.int32), "position": np.arange(32), "epoch": np.zeros(32, int)}
    batch = {key: value if key == "image" else value.astype(np.int32) for key, value in batch.items()}
    optimizer, variables = sgd(0.4, 10, 1000, 0.9, 5e-4), init_variables(module, 0, (32, 32, 3))
    ours = train_step(pretrain_step, module, optimizer, variables, batch, options, (task,))
    ways = theirs.rotnet(images, options)
    return Work("RotNet step, 128 inputs", "inputs", 128, ours, ways, 3 * 128 * _RESNET_FLOPS)


def works(num_images: int) -> dict[str, Callable[[theirs.Options], Work]]:
    """Returns what makes each work, by its name on the command line.

    Args:
        num_images: of the distillation end to end.
    """
    return {
        "distillation": functools.partial(distillation, num_images=num_images),
        "step": step,
        "score": score,
        "gradient": gradient,
        "moments128": lambda options: moments(100_000, 128),
        "moments2208": lambda options: moments(20_000, 2208),
        "densenet": densenet,
        "densenet_step": densenet_step,
        "rotnet": rotnet,
    }


class Side:
    """One of the two, in a process of its own: each manages memory in its own way, and leaves the other's alone.

    Attributes:
        title, unit, count, flops: of the work.
        ways: names of what it times.
    """

    def __init__(self, name: str, num_images: int, options: theirs.Options, *, is_ours: bool):
        self._pool = multiprocessing.get_context("spawn").Pool(1)
        described = self._pool.apply(_prepare, (name, num_images, options, is_ours))
        self.title, self.unit, self.count, self.flops, self.ways = described

    def seconds_of(self, way: str, least: float) -> float:
        """Returns the time of a call, the mean over so many as take at least some seconds."""
        return self._pool.apply(_time, (way, least))

    def close(self) -> None:
        """Ends the process."""
        self._pool.close()
        self._pool.join()


_runs: dict[str, Callable[[], object]] = {}  # what this process times, by the name of the way


def _prepare(name: str, num_images: int, options: theirs.Options, is_ours: bool) -> tuple:
    """Makes a work in this process, and warms each way up: the first call compiles, the second takes memory."""
    if is_ours:
        runtime.set_up()
    work = works(num_images)[name](options)
    _runs.update({"ours": work.ours} if is_ours else work.theirs)
    with console.silenced():
        for run in [*_runs.values()] * work.warm_up_calls:
            run()
    return work.title, work.unit, work.count, work.flops, list(_runs)


def _time(way: str, least: float) -> float:
    with console.silenced():
        return seconds_of(_runs[way], least)


def limit(dtype: str, side: int = 4096) -> float:
    """Returns the FLOP/s of a large matrix product in float32 or bfloat16, of random numbers."""
    numbers = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    product = jax.jit(functools.partial(jnp.matmul, precision="highest"))  # not TF32, on a GPU
    matrix = jnp.asarray(numbers, dtype)
    tensor = torch.from_numpy(numbers).to(theirs.DEVICE, getattr(torch, dtype))
    seconds = [
        seconds_of(lambda: product(matrix, matrix).block_until_ready(), 1.0),
        seconds_of(lambda: theirs.synchronised(tensor @ tensor), 1.0),
    ]
    return 2 * side**3 / min(seconds)


def rows_of(us: Side, them: Side, rounds: int, least: float, peak: float) -> Iterator[str]:
    """Times one work in alternating rounds and yields the lines of the table, one a way of PyTorch's."""
    seconds = {way: [] for way in (*us.ways, *them.ways)}
    for _ in range(rounds):
        for side in (us, them):
            for way in side.ways:
                seconds[way].append(side.seconds_of(way, least))
    ours = statistics.median(seconds["ours"])
    share = f"{100 * us.flops / ours / peak:.0f}%"

    def rate(values: list[float]) -> str:
        low, middle, high = (us.count / value for value in (max(values), statistics.median(values), min(values)))
        return f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]" if middle >= 100 else f"{middle:.1f} [{low:.1f}, {high:.1f}]"

    for way in them.ways:
        ratio = statistics.median(seconds[way]) / ours
        cells = us.title, f"{us.unit}/s", rate(seconds["ours"]), rate(seconds[way]), way, f"{ratio:.2f}", share
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Reads the command line, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"comma-separated, of {', '.join(works(0))}")
    parser.add_argument("--images", type=int, default=5000, help="of the distillation end to end")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="that each round of each way takes at least")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument(
        "--bfloat16", action="store_true", help="train in 16 bits; PyTorch all it does but vmap, by autocast"
    )
    arguments = parser.parse_args()
    known = list(works(0))
    names = arguments.only.split(",") if arguments.only else known
    if unknown := set(names) - set(known):
        parser.error(f"--only: there is no {', '.join(unknown)}")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # PyTorch shares the GPU
    runtime.set_up()
    if jax.config.jax_compilation_cache_dir:  # both sides draw weights by JAX
        os.environ["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    options = theirs.Options(arguments.compile, arguments.bfloat16)
    peak = limit(_dtype(options))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, torch {torch.__version__}", end="; ")
    print(f"large matrix product: {peak / 1e9:,.0f} GFLOP/s", flush=True)
    print("| work | unit | ours | PyTorch | way | ratio | share of the limit |\n|---|---|---|---|---|---|---|")
    for name in names:
        us, them = (Side(name, arguments.images, options, is_ours=is_ours) for is_ours in (True, False))
        for row in rows_of(us, them, arguments.rounds, arguments.seconds, peak):
            print(row, flush=True)
        us.close()
        them.close()


if __name__ == "__main__":
    main()
