"""The loop around a training step: progress, metrics, and a stop where the loss is no longer a number."""

import json
import pathlib
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tensorboardX import SummaryWriter

from brittle_jax import console
from brittle_jax.errors import UserError
from brittle_jax.parallel import Batch
from brittle_jax.train.steps import TrainState

_RECORDS_PER_STAGE = 100


class MetricLog:
    """Writes metrics to `metrics.jsonl` and as TensorBoard events, under `DIR/tensorboard`."""

    def __init__(self, workdir: pathlib.Path):
        path = workdir / "metrics.jsonl"
        was_cut_off = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = open(path, "a")
        if was_cut_off:
            self._file.write("\n")  # the line that a killed run left is lost, the next one is not
        self._events = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Records metrics of a stage, such as "distill unimodal/airplane", after so many updates."""
        self._file.write(json.dumps({"stage": stage, "step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._events.add_scalar(f"{stage}/{name}".replace(" ", "/"), value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._events.close()


def train(
    step: Callable[[TrainState, Batch], tuple[TrainState, dict]],
    state: TrainState,
    batches: Iterator[Batch],
    *,
    num_steps: int,
    stage: str,
    rate_field: str,
    log: MetricLog,
) -> TrainState:
    """Runs `num_steps` updates and returns the last state.

    Metrics are read one step late, so that the device never waits for the host, and recorded as means over
    about a hundredth of the stage.

    Args:
        rate_field: the learning rate's field, named where the loss is not finite.

    Raises:
        UserError: where the loss, or a weight in the end, is not finite.
    """
    record_every = max(num_steps // _RECORDS_PER_STAGE, 1)
    window: list[dict[str, float]] = []
    late = None
    start = time.monotonic()
    with console.track(stage, num_steps, unit="update") as progress:
        for number, batch in zip(range(1, num_steps + 1), batches, strict=False):
            state, metrics = step(state, batch)
            if late is not None:
                window.append(_read(late))
                _check_finite(window[-1]["loss"], f"{stage}: the loss at update {number - 1}", rate_field)
                progress.update(1, f"loss {window[-1]['loss']:.4g}")
            late = metrics
            if len(window) == record_every:
                log.write(stage, number - 1, _mean(window) | {"seconds": time.monotonic() - start})
                window = []
        window.append(_read(late))
        _check_finite(window[-1]["loss"], f"{stage}: the loss at update {num_steps}", rate_field)
        progress.update(1)
        log.write(stage, num_steps, _mean(window) | {"seconds": time.monotonic() - start})
    # The last update comes after the last loss.
    # On the host, where no program is compiled for each shape of weights; NumPy's maximum passes NaN on.
    largest_weight = np.max([np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(state.variables)])
    _check_finite(float(largest_weight), f"{stage}: the largest weight in the end", rate_field)
    return state


def _read(metrics: dict) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _check_finite(value: float, what: str, rate_field: str) -> None:
    if not np.isfinite(value):
        raise UserError(f"{what} is {value}: lower --config.{rate_field}")


def _mean(records: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([record[name] for record in records])) for name in records[0]}
