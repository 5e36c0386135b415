"""Devices: the only module that knows how many there are.

Training steps are pure per-device functions that average over the axis BATCH_AXIS; evaluations are ordinary jitted
functions. Both are spread over the devices here, with `jax.pmap`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brittle_jax.errors import UserError
from brittle_jax.precision import in_float32

BATCH_AXIS = "batch"  # name of the device axis inside a training step

_PIXELS_AT_ONCE_ON_CPU = 2 * 224 * 224  # on each device

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class DeviceGroup:
    """Devices that share the work of a run; every one holds the whole state and a slice of each batch.

    A function is compiled once per group, function, static arguments and shapes, however often it is asked for.
    """

    devices: tuple[jax.Device, ...] = dataclasses.field(default_factory=lambda: tuple(jax.local_devices()))

    @property
    def size(self) -> int:
        return len(self.devices)

    @property
    def kinds(self) -> list[str]:
        """Names of the devices, such as "cpu", one each."""
        return [device.device_kind for device in self.devices]

    @property
    def keeps_examples(self) -> bool:
        """Whether training takes its batches from examples that lie on the devices, where they are small enough.

        On a CPU that saves nothing, and XLA runs the updates of a loop no faster there (benchmarks/NOTES.md).
        """
        return self.platform != "cpu"

    @property
    def platform(self) -> str:
        """Kind of hardware: cpu, gpu or tpu."""
        return self.devices[0].platform

    def fit_batch_size(self, batch_size: int, num_images: int, image_shape: tuple[int, ...]) -> int:
        """Returns the batch size of an evaluation: the given one, or the largest that memory and the set allow.

        What comes out depends on it by rounding alone. On a CPU memory has a bound: 2 images at 224 at once on each
        device, since input gradients of DenseNet-161 take 150 MB for each. All sets of more images get the same size,
        and so share a program.
        """
        if self.platform == "cpu":
            at_once = max(_PIXELS_AT_ONCE_ON_CPU // math.prod(image_shape[:2]), 1)
            batch_size = min(batch_size, at_once * self.size)
        return min(batch_size, math.ceil(num_images / self.size) * self.size)

    def check_batch_size(self, batch_size: int, field: str, images_per_input: int = 1) -> None:
        """Raises UserError where a global batch, of whole images, cannot be shared evenly by the devices."""
        unit = self.size * images_per_input
        if batch_size % unit:
            of_images = f" of images in {images_per_input} views each" if images_per_input > 1 else ""
            raise UserError(
                f"{field}={batch_size}{of_images} cannot be shared evenly by {self.size} device(s): "
                f"use {max(batch_size // unit, 1) * unit}"
            )

    def peak_memory_mib(self) -> int | None:
        """Returns the highest memory in use so far on the fullest device; None where devices do not count it."""
        statistics = [device.memory_stats() for device in self.devices]
        peaks = [each["peak_bytes_in_use"] for each in statistics if each and "peak_bytes_in_use" in each]
        return max(peaks) // 2**20 if peaks else None

    def replicate(self, tree: Any) -> Any:
        """Puts a whole copy of each array on every device."""
        # A copy of its own: a training step donates its state, which must not take the caller's arrays along.
        return self._put(jax.tree.map(lambda x: jnp.array(x, copy=True), tree))

    def shard(self, batch: Batch) -> dict[str, jax.Array]:
        """Puts on each device its slice, [N, ...] as [D, N / D, ...]; the batch must not be written to afterwards."""
        slices = {key: value.reshape(self.size, -1, *value.shape[1:]) for key, value in batch.items()}
        return self._put(slices, BATCH_AXIS)

    def _put(self, tree: Any, *axes: str) -> Any:
        placed = jax.device_put(tree, self._sharding(*axes))
        # A CPU runs a program within its call, as `runtime.set_up` wants it, only if all that it takes is there.
        return jax.block_until_ready(placed) if self.platform == "cpu" else placed

    @functools.lru_cache  # noqa: B019 - groups are few and live as long as the program
    def _sharding(self, *axes: str) -> NamedSharding:
        # Named as pmap names it in what comes out: else the second call would be compiled anew.
        return NamedSharding(Mesh(np.asarray(self.devices), (BATCH_AXIS,)), PartitionSpec(*axes))

    @functools.lru_cache  # noqa: B019
    def train_step(self, step: Callable, *static: Any) -> Callable:
        """Compiles `step(*static, state, batch) -> (state, metrics)`, which averages over BATCH_AXIS.

        The state stays whole on every device and is donated; the batch is sharded here.
        """
        compiled = jax.pmap(
            functools.partial(step, *static),
            axis_name=BATCH_AXIS,
            in_axes=(None, 0),
            out_axes=(None, None),
            donate_argnums=0,
            devices=self.devices,
        )
        return lambda state, batch: compiled(state, self.shard(batch))

    @functools.lru_cache  # noqa: B019
    def train_steps(self, step: Callable, *static: Any) -> Callable:
        """Compiles many updates by a step, as `train_step` takes it, on examples that lie on the devices.

        Returns:
            `updates(state, examples, rows, count) -> (state, metrics)`, which makes `count` updates, the state donated:
            `examples` are what batches are taken from, replicated, each [M, ...]; `rows` are what batches have
            beside them, each [U, N], and among these `position`, where in the examples the images of each update stand.
            Metrics are [U], of which `count` are filled. Another count compiles nothing, another M or U does.
        """

        def updates(state: Any, examples: Batch, rows: Batch, count: jax.Array) -> tuple[Any, Any]:
            def batch_of(number: int | jax.Array) -> dict[str, jax.Array]:
                row = {key: value[number] for key, value in rows.items()}
                return {key: value[row["position"]] for key, value in examples.items()} | row

            def update(number: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
                state, metrics = step(*static, carry[0], batch_of(number))
                return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), carry[1], metrics)

            _, metrics = jax.eval_shape(functools.partial(step, *static), state, batch_of(0))
            most = len(rows["position"])
            return jax.lax.fori_loop(
                0, count, update, (state, jax.tree.map(lambda one: jnp.zeros((most, *one.shape), one.dtype), metrics))
            )

        compiled = jax.pmap(
            updates,
            axis_name=BATCH_AXIS,
            in_axes=(None, None, 1, None),
            out_axes=(None, None),
            donate_argnums=0,
            devices=self.devices,
        )

        def run(state: Any, examples: Batch, rows: Batch, count: int) -> tuple[Any, Any]:
            shares = {key: value.reshape(len(value), self.size, -1) for key, value in rows.items()}
            return compiled(state, examples, shares, np.int32(count))

        return run

    @functools.lru_cache  # noqa: B019
    def evaluation(self, function: Callable, *static: Any) -> Callable[[Any, Batch], Any]:
        """Compiles `function(*static, model, batch) -> rows`, which returns one row per image.

        Returns:
            `evaluate(model, batch)`: takes a replicated model and a batch [N, ...] of the host. Its rows stay on the
            devices, and need not be computed yet: see `gather`.
        """
        compiled = jax.pmap(
            in_float32(functools.partial(function, *static)), in_axes=(None, 0), out_axes=0, devices=self.devices
        )
        return lambda model, batch: compiled(model, self.shard(batch))


def gather(rows: Any) -> Any:
    """Brings the rows of an evaluation to the host: [D, N / D, ...] on D devices becomes [N, ...]."""
    return jax.tree.map(lambda each: np.asarray(each).reshape(-1, *each.shape[2:]), rows)
