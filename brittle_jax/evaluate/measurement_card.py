"""How a value of brittleness was measured, and which two values may be compared."""

import dataclasses

from brittle_jax.errors import UserError

_TOLERANCE = 0.1  # of movements and of error ratios: one may exceed the other by a tenth


@dataclasses.dataclass(frozen=True)
class MeasurementCard:
    """Everything that brittleness depends on beside the teacher.

    Attributes:
        network: name of the teacher's architecture.
        student: name of the student's.
        output_dimension: F.
        gradient_path: "student" or "both", see `brittleness.input_gradient_norms`.
        batch_norm: which statistics the networks use while they are measured.
        pixel_scale: of the images that gradients are with respect to.
        targets: the coordinates of the teacher's outputs that the student learned, such as "raw".
        pictures: which images, and how many.
        movement: how far the student's weights may have moved, in deviations of their draw.
        error_ratio: the student's error on normal test images over that of always predicting the teacher's mean; None
            if the teacher's outputs do not vary.
    """

    network: str
    student: str
    output_dimension: int
    gradient_path: str
    batch_norm: str
    pixel_scale: str
    targets: str
    pictures: str
    movement: float
    error_ratio: float | None


def compare(first: MeasurementCard, second: MeasurementCard, *, at: str = "movement") -> None:
    """Raises UserError, naming the difference, if two values of brittleness cannot be compared.

    Students must have trained equally far: by how far their weights moved, or by how much of their error is left. The
    two seldom agree at once, so one of them is chosen.

    Args:
        at: "movement" or "error_ratio": which of the two must agree, within a tenth.
    """
    if at not in ("movement", "error_ratio"):
        raise ValueError(f"values are compared at 'movement' or 'error_ratio', not {at!r}")
    cards = [dataclasses.asdict(each) for each in (first, second)]
    for name in (field.name for field in dataclasses.fields(MeasurementCard)):
        if name not in ("movement", "error_ratio") and cards[0][name] != cards[1][name]:
            _refuse(name, *(card[name] for card in cards))
    values = [card[at] for card in cards]
    if None in values or max(values) > (1 + _TOLERANCE) * min(values):
        _refuse(at, *(None if value is None else f"{value:.3g}" for value in values))


def _refuse(name: str, first: object, second: object) -> None:
    words = name.replace("_", " ")
    raise UserError(f"brittleness cannot be compared: {words} differs ({first} and {second}): measure both alike")
