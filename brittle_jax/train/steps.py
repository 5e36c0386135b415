"""One update of a network, on one device of many: pure functions that average over the axis BATCH_AXIS."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from brittle_jax.auxiliary.task import AuxiliaryTask
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.devices import BATCH_AXIS
from brittle_jax.precision import in_float32
from brittle_jax.train.optimizers import ConstantRate, Optimizer, TriangularRate

Metrics = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that changes in training.

    Attributes:
        step: [] int32, updates so far.
        params, batch_stats: of the network.
        opt_state: of the optimiser.
        learning_rate: of each update; it does not change.
        rng: key data of the stage's random draws; it does not change, draws are keyed by epoch and image.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    learning_rate: ConstantRate | TriangularRate
    rng: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """The network's weights, as `module.apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(variables: dict[str, Any], optimizer: Optimizer, seed: int) -> TrainState:
    """Returns the state before the first update."""
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.tx.init(variables["params"]),
        learning_rate=optimizer.learning_rate,
        rng=jax.random.key_data(jax.random.key(seed)),
    )


def distill_step(
    module: nn.Module, tx: optax.GradientTransformation, state: TrainState, batch: dict[str, jax.Array]
) -> tuple[TrainState, Metrics]:
    """Moves the student towards the teacher's outputs (Sec. 3.2).

    The loss is the mean over features, and over images, of (f(x) - h(x))².

    Args:
        batch: `image` [N, H, W, C] uint8 and `target` [N, F], the teacher's outputs.
    """
    images = to_unit_range(batch["image"])

    def losses(outputs):
        return jnp.square(outputs - batch["target"]).mean(axis=-1), {}

    return _update(module, tx, state, images, losses)


def pretrain_step(
    module: nn.Module,
    tx: optax.GradientTransformation,
    task: AuxiliaryTask,
    state: TrainState,
    batch: dict[str, jax.Array],
) -> tuple[TrainState, Metrics]:
    """Moves a teacher towards solving its auxiliary task (Sec. A.1).

    Args:
        batch: `image` [N, H, W, C] uint8, `label` [N], and `epoch` and `position` [N], which key the augmentation.
    """
    stage_key = jax.random.wrap_key_data(state.rng)
    keys = jax.vmap(lambda epoch, position: jax.random.fold_in(jax.random.fold_in(stage_key, epoch), position))(
        batch["epoch"], batch["position"]
    )
    inputs, targets = task.prepare(to_unit_range(batch["image"]), batch["label"], keys)

    def losses(outputs):
        return task.losses(outputs, targets), task.metrics(outputs, targets)

    return _update(module, tx, state, inputs, losses)


class BatchNormState(flax.struct.PyTreeNode):
    """Batch-norm statistics, averaged over batches so far.

    Attributes:
        step: [] int32, batches so far.
        params: of the network; they do not change.
        batch_stats: mean over the batches of each one's mean and variance.
    """

    step: jax.Array
    params: Any
    batch_stats: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The network's weights and statistics, as `module.apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


@in_float32  # as the evaluations that use these statistics
def batch_norm_step(
    module: nn.Module, state: BatchNormState, batch: dict[str, jax.Array]
) -> tuple[BatchNormState, Metrics]:
    """Averages the batch-norm statistics of one more batch into the state's; the weights stay as they are.

    Args:
        module: with `batch_norm_momentum` 0, so that what it reports is this batch's statistics alone.
        batch: `image` [N, H, W, C] uint8.
    """
    images = to_unit_range(batch["image"])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    _, updated = module.apply(variables, images, train=True, mutable=["batch_stats"])
    weight = 1 / (state.step + 1)
    batch_stats = jax.tree.map(
        lambda mean, new: mean + weight * (new - mean), state.batch_stats, updated["batch_stats"]
    )
    return state.replace(step=state.step + 1, batch_stats=batch_stats), {}


def _update(module, tx, state, inputs, losses_of) -> tuple[TrainState, Metrics]:
    def mean_loss(params):
        # In 16 bits, if the module computes in them: the trunk's copy of the weights, not those that are updated.
        trunk = jax.tree.map(lambda leaf: jnp.asarray(leaf, module.dtype), params["trunk"])
        variables = {"params": {**params, "trunk": trunk}, "batch_stats": state.batch_stats}
        outputs, updated = module.apply(variables, inputs, train=True, mutable=["batch_stats"])
        losses, extra = losses_of(outputs)
        return losses.mean(), (updated["batch_stats"], extra)

    (loss, (batch_stats, extra)), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    metrics = {"loss": loss, **{name: values.mean() for name, values in extra.items()}}
    grads, metrics = jax.lax.pmean((grads, metrics), BATCH_AXIS)
    directions, opt_state = tx.update(grads, state.opt_state, state.params)
    rate = state.learning_rate.at(state.step)
    new_state = state.replace(
        step=state.step + 1,
        params=jax.tree.map(lambda weight, direction: weight - rate * direction, state.params, directions),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return new_state, metrics
