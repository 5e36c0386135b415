"""Compares the speed of brittle_jax and PyTorch at the same work, on any device.

    python -m benchmarks.against_pytorch
    python -m benchmarks.against_pytorch --only step,score --rounds 7 --compile

PyTorch runs in eager mode with channels-last tensors; `--compile` also times `torch.compile`. Images are random. The
two take turns, each in a process of its own. A rate is the median over the rounds, with the lowest and the highest.
Run the benchmark twice on a new machine, because programs that were compiled in the process run slower than those read
from the compilation cache. The machine's limit is the speed of a large matrix product, the faster one of JAX's and
PyTorch's. Needs the extra `reference`.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import pytorch_work
from benchmarks.made_up import images_of, network, pictures
from benchmarks.timing import seconds_of
from brittle_jax import console, runtime, student
from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.brittleness import input_gradient_norms
from brittle_jax.evaluate.detectors import distillation_score
from brittle_jax.evaluate.moments import covariance_of, moments_of
from brittle_jax.inference import Representations
from brittle_jax.loop import Loop
from brittle_jax.models.network import ARCHITECTURES, Network, Representation, computing_in, init_variables
from brittle_jax.train.optimizers import Optimizer, adam, sgd
from brittle_jax.train.steps import create_state, distill_step, pretrain_step

_FEATURES = 128  # of the representation in the CIFAR-10 rows
_DISTILLATION_EPOCHS = 2
# Of one forward pass of one image: 379 million multiply-adds at 32×32, and 7.7 billion at 224×224.
_RESNET_FLOPS, _DENSENET_FLOPS = 2 * 379.4e6, 2 * 7.73e9
_BATCH_SIZE = 128  # for scores and input gradients


@dataclasses.dataclass(frozen=True)
class Work:
    """One piece of work, done by both.

    Attributes:
        title: of the table's line.
        unit: what is counted, such as images.
        count: units in one call.
        jax_run: does the work once, and waits for the device.
        torch_runs: the same in PyTorch, by mode, such as `eager`.
        flops: of one call, where a plain convolution or matrix product counts two per multiplication. The Winograd
            algorithm needs fewer, so the share of the limit can exceed one.
        warm_up_calls: calls that are not timed; one is enough for a call of many updates.
    """

    title: str
    unit: str
    count: int
    jax_run: Callable[[], object]
    torch_runs: pytorch_work.Runs
    flops: float
    warm_up_calls: int = 2


def train_step(
    step: Callable,
    module: Representation,
    optimizer: Optimizer,
    variables: dict,
    batch: dict,
    options: pytorch_work.Options,
    static: tuple = (),
) -> Callable[[], object]:
    """Returns a function that makes one update. The state carries over from call to call."""
    devices = DeviceGroup((jax.devices()[0],))  # PyTorch uses one
    state = devices.replicate(create_state(variables, optimizer, seed=0))
    update = devices.train_step(step, computing_in(module, _dtype(options)), optimizer.tx, *static)

    def run() -> None:
        nonlocal state
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def _dtype(options: pytorch_work.Options) -> str:
    return "bfloat16" if options.bfloat16 else "float32"


def distillation(options: pytorch_work.Options, num_images: int) -> Work:
    """One configuration end to end. The teacher runs once; in PyTorch at every step, as usual."""
    images = images_of(pictures(num_images, 32))
    indices, batch_size = np.arange(num_images), 64
    loop, teacher = Loop(DeviceGroup((jax.devices()[0],)), batch_size), network("small_resnet", _FEATURES, 32)

    def jax_run() -> None:
        work = student.distillation(
            teacher.module,
            images,
            indices,
            Representations(teacher, images, loop),
            name="x",
            seed=0,
            num_updates=student.num_updates(num_images, batch_size=batch_size, num_epochs=_DISTILLATION_EPOCHS),
            batch_size=batch_size,
            learning_rate=1e-5,
            training_dtype=_dtype(options),
            devices=loop.devices,
        )
        jax.block_until_ready(loop.run(work))

    count = num_images * _DISTILLATION_EPOCHS
    given = pictures(num_images, 32)
    runs = pytorch_work.distillation(given, _FEATURES, _DISTILLATION_EPOCHS, batch_size, options)
    title = f"distillation, {num_images:,} images, {_DISTILLATION_EPOCHS} epochs"
    return Work(title, "images", count, jax_run, runs, (3 * count + num_images) * _RESNET_FLOPS, warm_up_calls=1)


def step(options: pytorch_work.Options) -> Work:
    """One distillation step, given the teacher's outputs."""
    images = pictures(64, 32)
    student = network("small_resnet", _FEATURES, 32)
    targets = np.random.default_rng(1).normal(size=(64, _FEATURES)).astype(np.float32)
    batch = {"image": images, "target": targets}
    jax_run = train_step(distill_step, student.module, adam(1e-5), student.variables, batch, options)
    runs = pytorch_work.step(images, targets, options)
    return Work("distillation step, batch 64", "images", 64, jax_run, runs, 3 * 64 * _RESNET_FLOPS)


def score(options: pytorch_work.Options) -> Work:
    """Distillation scores, from student and teacher."""
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
        pytorch_work.score(images, _FEATURES, options, _BATCH_SIZE),
        2 * len(images) * _RESNET_FLOPS,
    )


def gradient(options: pytorch_work.Options) -> Work:
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
        pytorch_work.gradient(images, _FEATURES, options, _BATCH_SIZE),
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
        pytorch_work.moments(vectors),
        2.0 * count * features**2,
    )


def densenet(options: pytorch_work.Options) -> Work:
    """Forward pass of DenseNet-161 on images of 224×224."""
    images, dense = pictures(8, 224), network("densenet161", 0, 224)

    @jax.jit
    def outputs(network: Network, images: jax.Array) -> jax.Array:
        return network(to_unit_range(images))

    return Work(
        "DenseNet-161 at 224, forward, 8 images",
        "images",
        len(images),
        lambda: np.asarray(outputs(dense, images)),
        pytorch_work.densenet(images, options),
        len(images) * _DENSENET_FLOPS,
    )


def densenet_step(options: pytorch_work.Options) -> Work:
    """A distillation step of DenseNet-161 on images of 224×224."""
    images, dense = pictures(8, 224), network("densenet161", 0, 224)
    batch = {"image": images, "target": np.zeros((8, 2208), np.float32)}
    jax_run = train_step(distill_step, dense.module, adam(1e-5), dense.variables, batch, options)
    runs = pytorch_work.densenet_step(images, options)
    return Work("DenseNet-161 at 224, distillation step, batch 8", "images", 8, jax_run, runs, 24 * _DENSENET_FLOPS)


def rotnet(options: pytorch_work.Options) -> Work:
    """A RotNet step on 32 images in four rotations each."""
    images = pictures(32, 32)
    task = RotNet(Augmentation(crop_padding_pixels=4, flip=False, cutout_pixels=8))
    module = task.build_module(ARCHITECTURES["small_resnet"], _FEATURES, (32, 32, 3))
    batch = {"image": images, "label": np.zeros(32, np.int32), "position": np.arange(32), "epoch": np.zeros(32, int)}
    batch = {key: value if key == "image" else value.astype(np.int32) for key, value in batch.items()}
    optimizer, variables = sgd(0.4, 10, 1000, 0.9, 5e-4), init_variables(module, 0, (32, 32, 3))
    jax_run = train_step(pretrain_step, module, optimizer, variables, batch, options, (task,))
    runs = pytorch_work.rotnet(images, options)
    return Work("RotNet step, 128 inputs", "inputs", 128, jax_run, runs, 3 * 128 * _RESNET_FLOPS)


def works(num_images: int) -> dict[str, Callable[[pytorch_work.Options], Work]]:
    """Returns functions that build each work, by its name on the command line.

    Args:
        num_images: in the distillation end to end.
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
    """The process of JAX or of PyTorch. A process of its own, because each sets up memory in its own way.

    Attributes:
        title, unit, count, flops: of the work.
        modes: what it times: `jax`, or the keys of `Work.torch_runs`.
    """

    def __init__(self, name: str, num_images: int, options: pytorch_work.Options, *, is_jax: bool):
        self._pool = multiprocessing.get_context("spawn").Pool(1)
        described = self._pool.apply(_prepare, (name, num_images, options, is_jax))
        self.title, self.unit, self.count, self.flops, self.modes = described

    def seconds_of(self, mode: str, least: float) -> float:
        """Returns the mean time of a call, over as many calls as take at least `least` seconds."""
        return self._pool.apply(_time, (mode, least))

    def close(self) -> None:
        """Ends the process."""
        self._pool.close()
        self._pool.join()


_runs: dict[str, Callable[[], object]] = {}  # what this process times, by mode


def _prepare(name: str, num_images: int, options: pytorch_work.Options, is_jax: bool) -> tuple:
    """Builds a work in this process and warms it up: the first call compiles, the second allocates."""
    if is_jax:
        runtime.set_up()
    work = works(num_images)[name](options)
    _runs.update({"jax": work.jax_run} if is_jax else work.torch_runs)
    with console.silenced():
        for run in [*_runs.values()] * work.warm_up_calls:
            run()
    return work.title, work.unit, work.count, work.flops, list(_runs)


def _time(mode: str, least: float) -> float:
    with console.silenced():
        return seconds_of(_runs[mode], least)


def limit(dtype: str, side: int = 4096) -> float:
    """Returns the FLOP/s of a large matrix product of random numbers in float32 or bfloat16."""
    numbers = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    product = jax.jit(functools.partial(jnp.matmul, precision="highest"))  # no TF32 on a GPU
    matrix = jnp.asarray(numbers, dtype)
    tensor = torch.from_numpy(numbers).to(pytorch_work.DEVICE, getattr(torch, dtype))
    seconds = [
        seconds_of(lambda: product(matrix, matrix).block_until_ready(), 1.0),
        seconds_of(lambda: pytorch_work.synchronised(tensor @ tensor), 1.0),
    ]
    return 2 * side**3 / min(seconds)


def lines_of(jax_side: Side, torch_side: Side, rounds: int, least: float, peak: float) -> Iterator[str]:
    """Times a work in alternating rounds and yields a line of the table for each mode of PyTorch."""
    seconds = {mode: [] for mode in (*jax_side.modes, *torch_side.modes)}
    for _ in range(rounds):
        for side in (jax_side, torch_side):
            for mode in side.modes:
                seconds[mode].append(side.seconds_of(mode, least))
    jax_seconds = statistics.median(seconds["jax"])
    share = f"{100 * jax_side.flops / jax_seconds / peak:.0f}%"

    def rate(values: list[float]) -> str:
        low, middle, high = (jax_side.count / value for value in (max(values), statistics.median(values), min(values)))
        return f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]" if middle >= 100 else f"{middle:.1f} [{low:.1f}, {high:.1f}]"

    for mode in torch_side.modes:
        ratio = statistics.median(seconds[mode]) / jax_seconds
        cells = (
            jax_side.title,
            f"{jax_side.unit}/s",
            rate(seconds["jax"]),
            rate(seconds[mode]),
            mode,
            f"{ratio:.2f}",
            share,
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Reads the command line, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(works(0))}")
    parser.add_argument("--images", type=int, default=5000, help="in the distillation end to end")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="least time of each mode in a round")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument(
        "--bfloat16", action="store_true", help="train in 16 bits; in PyTorch autocast everything but vmap"
    )
    arguments = parser.parse_args()
    known = list(works(0))
    names = arguments.only.split(",") if arguments.only else known
    if unknown := set(names) - set(known):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # PyTorch shares the GPU
    runtime.set_up()
    if jax.config.jax_compilation_cache_dir:  # both sides draw weights with JAX
        os.environ["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    options = pytorch_work.Options(arguments.compile, arguments.bfloat16)
    peak = limit(_dtype(options))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, torch {torch.__version__}", end="; ")
    print(f"large matrix product: {peak / 1e9:,.0f} GFLOP/s", flush=True)
    print("| work | unit | brittle_jax | PyTorch | mode | ratio | share of the limit |\n|---|---|---|---|---|---|---|")
    for name in names:
        jax_side, torch_side = (Side(name, arguments.images, options, is_jax=is_jax) for is_jax in (True, False))
        for line in lines_of(jax_side, torch_side, arguments.rounds, arguments.seconds, peak):
            print(line, flush=True)
        jax_side.close()
        torch_side.close()


if __name__ == "__main__":
    main()
