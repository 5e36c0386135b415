import dataclasses

import pytest

from brittle_jax.errors import UserError
from brittle_jax.evaluate.measurement_card import MeasurementCard, compare

CARD = MeasurementCard(
    network="small_resnet",
    student="small_resnet",
    output_dimension=128,
    gradient_path="student",
    batch_norm="running averages",
    pixel_scale="[0, 1]",
    targets="raw",
    pictures="cifar10 unimodal/automobile, 5000 images, 0123abcd",
    movement=1.58,
    error_ratio=0.8,
)


def test_like_values_can_be_compared():
    compare(CARD, CARD)
    compare(CARD, dataclasses.replace(CARD, movement=1.65, error_ratio=0.2))
    compare(CARD, dataclasses.replace(CARD, movement=9.0, error_ratio=0.85), at="error_ratio")


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("network", "densenet161", "network differs (small_resnet and densenet161)"),
        ("output_dimension", 64, "output dimension differs (128 and 64)"),
        ("gradient_path", "both", "gradient path differs (student and both)"),
        ("batch_norm", "batch statistics", "batch norm differs"),
        ("pixel_scale", "[0, 255]", "pixel scale differs"),
        ("student", "convnet", "student differs (small_resnet and convnet)"),
        ("targets", "whitened", "targets differs (raw and whitened)"),
        ("pictures", "leaves, 7 images, ff", "pictures differs"),
        ("movement", 2.0, "movement differs (1.58 and 2)"),
    ],
)
def test_unlike_values_are_refused_by_name(name, other, message):
    with pytest.raises(UserError) as refusal:
        compare(CARD, dataclasses.replace(CARD, **{name: other}))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("other", [0.7, None])
def test_unlike_error_ratios_are_refused_where_they_count(other):
    with pytest.raises(UserError, match="error ratio differs"):
        compare(CARD, dataclasses.replace(CARD, error_ratio=other), at="error_ratio")


def test_an_unknown_yardstick_is_refused():
    with pytest.raises(ValueError, match="'movement' or 'error_ratio', not 'updates'"):
        compare(CARD, CARD, at="updates")
