"""The optimisers of students and teachers; equal settings give the same object.

That lets a compiled step be found again, which knows its optimiser by identity.
"""

import functools

import ml_collections
import optax


def build_optimizer(
    settings: ml_collections.ConfigDict, steps_per_epoch: int, num_steps: int
) -> optax.GradientTransformation:
    """Returns the optimiser that `config.pretrain` names, for a training of so many updates."""
    if settings.optimizer == "adam":
        return adam(settings.peak_learning_rate)
    peak_step = min(round(settings.warmup_epochs * steps_per_epoch), num_steps - 1)
    return sgd(settings.peak_learning_rate, peak_step, num_steps, settings.momentum, settings.weight_decay)


@functools.cache
def sgd(
    peak_learning_rate: float, peak_step: int, num_steps: int, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns SGD with Nesterov momentum, whose rate rises linearly from 0 and falls linearly to 0.

    The weight decay is added to the gradient, of every parameter, as in cifar10-fast.
    """
    # The schedule counts from 0; the first update would be lost at a rate of exactly 0.
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(peak_learning_rate / (peak_step + 1), peak_learning_rate, max(peak_step, 1)),
            optax.linear_schedule(peak_learning_rate, 0.0, max(num_steps - peak_step, 1)),
        ],
        [peak_step],
    )
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum=momentum, nesterov=True))


@functools.cache
def adam(learning_rate: float) -> optax.GradientTransformation:
    """Returns Adam at a constant rate."""
    return optax.adam(learning_rate)
