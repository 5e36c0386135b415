"""Whole runs on levels, with the ImageNet teacher of EfficientNet-Lite0 and with others."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from brittle_jax.apply import detector as detector_lib
from brittle_jax.errors import UserError
from brittle_jax.models.layers import batch_norm, conv
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.models.trunk import Trunk
from brittle_jax.recipes import image_folder_row
from brittle_jax.results import DETECTORS
from brittle_jax.run import experiment
from tests.mini_network import MINI
from tests.small_runs import read, shrink


@pytest.fixture
def config(tmp_path, data_dir):
    """A run on a few pictures: normal ones are shades of one colour, anomalies are noise."""
    rng = np.random.default_rng(0)
    for kind, count in (("normal", 24), ("noise", 4)):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for number in range(count):
            spread = 10 if kind == "normal" else 100
            picture = rng.normal(rng.uniform(100, 150), spread, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "own" / kind / f"{number:02d}.png")
    config = shrink(image_folder_row("32-imagenet_lite"))
    config.network.student, config.distill.targets = "", "raw"
    config.data.dir, config.data.path = data_dir, str(tmp_path / "own")
    return config


@pytest.mark.long
@pytest.mark.reference
def test_the_lite_teacher_runs_on_middle_levels(tmp_path, config, made_up_lite):
    config.network.levels, config.evaluate.covariance = "stage2,stage3", "ledoit_wolf"
    experiment.run(config, tmp_path / "run")
    results = read(tmp_path / "run", "results.json")
    (entry,) = results["configurations"]
    assert entry["covariance"]["num_features"] == entry["covariance"]["rank"] == 24 + 40
    assert np.isfinite([entry["auroc"][name] for name in DETECTORS]).all()
    assert np.isfinite([entry[name] for name in ("brittleness", "gradient_norm", "error_trace")]).all()
    assert entry["brittleness"] > 0 and entry["auroc"]["mahalanobis_full"] == 1
    assert results["synthetic_data"] is False
    assert results["measurement"]["levels"] == "stage2,stage3"
    assert results["measurement"]["output_features"] == "averages of levels"
    assert results["measurement"]["initialiser"].startswith("convolutions normal, of variance 2/fan_out")
    detector = detector_lib.load(tmp_path / "run", "normal")
    assert detector.network.levels == "stage2,stage3"
    kernel = made_up_lite._blocks[6]._project_conv.weight.detach().numpy()  # of a stage that is not run
    teacher = detector.teacher.variables["params"]["trunk"]["block6_project_conv"]["kernel"]
    np.testing.assert_array_equal(teacher, kernel.transpose(2, 3, 1, 0))
    scores = detector(np.random.default_rng(0).random((3, 32, 32, 3), np.float32))
    assert all(np.isfinite(values).all() for values in scores.values())


class ThreeStages(Trunk):
    """A trunk of one's own, with levels."""

    batch_norm_momentum: float = 0.9
    level_names = ("low", "middle", "high")

    def stages(self, x, train):
        for name, features in zip(self.level_names, (4, 6, 8), strict=True):
            x = conv(features, (3, 3), strides=2, padding=1, name=name)(x)
            x = nn.relu(batch_norm(train, self.batch_norm_momentum, f"{name}_norm")(x))
            yield x

    def pool(self, x, train):
        return x.mean(axis=(1, 2))


@pytest.mark.parametrize(
    ("task", "output_features"), [pytest.param("rotnet", 5, marks=pytest.mark.long), ("random", 0)]
)
def test_other_teachers_run_on_levels(tmp_path, config, monkeypatch, task, output_features):
    monkeypatch.setitem(ARCHITECTURES, "mine", dataclasses.replace(MINI, trunk=ThreeStages()))
    config.teacher.task, config.network.name, config.teacher.batch_norm_batch_size = task, "mine", 16
    config.network.levels, config.network.output_features = "low,middle", output_features
    experiment.run(config, tmp_path / "run")
    (entry,) = read(tmp_path / "run", "results.json")["configurations"]
    assert entry["covariance"]["num_features"] == (output_features or 4 + 6)
    assert entry["brittleness"] > 0
    teacher = detector_lib.load(tmp_path / "run", "normal").teacher.variables
    # A teacher is pre-trained as a whole; of a random one, what is not run is not measured either.
    assert teacher["batch_stats"]["trunk"]["low_norm"]["mean"].any()
    assert teacher["batch_stats"]["trunk"]["high_norm"]["mean"].any() == (task == "rotnet")


MISTAKES = {
    "no such level": (
        {"network.levels": "stage2,stage9"},
        "network.levels='stage2,stage9': efficientnet_lite0 has no ",
    ),
    "of another network": (
        {"network.name": "small_resnet_tiny", "network.levels": "layer4"},
        "network.levels='layer4': small_resnet_tiny has no layer4; it has prep, layer1, layer2, layer3 (did you mean ",
    ),
    "extremes of no such level": (
        {"network.levels": "stage2,stage8:extremes"},
        "network.levels='stage2,stage8:extremes': efficientnet_lite0 has no stage8; it has stage1, ",
    ),
    "extremes of nothing": (
        {"network.levels": ":extremes"},
        "network.levels=':extremes': efficientnet_lite0 has no ':extremes'; it has stage1, ",
    ),
    "no such kind": (
        {"network.levels": "stage2:maximum"},
        "network.levels='stage2:maximum': efficientnet_lite0 has no 'stage2:maximum'; it has stage1, stage2, stage3, "
        "stage4, stage5, stage6, stage7 (extremes are written stage1:extremes)",
    ),
    "extremes of extremes": (
        {"network.levels": "stage1:extremes:extremes"},
        "network.levels='stage1:extremes:extremes': efficientnet_lite0 has no 'stage1:extremes:extremes'; it has ",
    ),
    "a space before the kind": (
        {"network.levels": "stage1 :extremes"},
        "network.levels='stage1 :extremes': efficientnet_lite0 has no 'stage1 :extremes'; it has stage1, ",
    ),
    "extremes twice": (
        {"network.levels": "stage2:extremes,stage2:extremes"},
        "network.levels='stage2:extremes,stage2:extremes' names stage2:extremes twice",
    ),
    "twice": ({"network.levels": "stage2,stage3,stage2"}, "network.levels='stage2,stage3,stage2' names stage2 twice"),
    "no levels": (
        {"network.name": "mini", "network.levels": "conv"},
        "network.levels='conv': mini has no levels: leave it empty",
    ),
    "bottleneck": (
        {
            "network.name": "small_resnet_tiny",
            "network.levels": "layer1",
            "network.output_features": 8,
            "teacher.task": "autoencoder",
        },
        "network.levels='layer1': the representation of this teacher is its bottleneck: leave it empty",
    ),
    "network": (
        {"network.name": "small_resnet_tiny", "network.levels": ""},
        "network.name='small_resnet_tiny': the teacher imagenet_lite needs network.name=efficientnet_lite0",
    ),
    "weights of a file": (
        {"teacher.task": "imagenet"},
        "network.name='efficientnet_lite0': for its published weights set teacher.task=imagenet_lite",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_used_is_one_line(config, tmp_path, case):
    changes, message = MISTAKES[case]
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as raised:
        experiment.run(config, tmp_path / "run")
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
