import pytest

from brittle_jax.data.parcels import VERSION
from brittle_jax.files import write_json
from brittle_jax.recipes import densenet_row, small_resnet_row
from brittle_jax.run import record, settings
from brittle_jax.run.row import Row


def test_changed_fields_name_the_recipe_and_what_was_used():
    recipe = small_resnet_row("cifar10_random", None, data="cifar10", teacher="random")
    used = small_resnet_row("cifar10_random", None, data="cifar10", teacher="random")
    used.seed, used.data.dir, used.teacher.seed, used.distill.seed, used.seeds = 3, "there", 1, 2, "0,1"
    assert record.changed_fields(used, recipe) == {}
    used.distill.num_epochs = 2.0
    used.data.configurations = "unimodal"
    assert record.changed_fields(used, recipe) == {
        "data.configurations": ["all", "unimodal"],
        "distill.num_epochs": [20.0, 2.0],
    }


def test_the_seeds_that_are_used_are_recorded():
    config = small_resnet_row("cifar10_random", None, data="cifar10", teacher="random")
    config.seed = 3
    assert record.seeds(config) == {"splits": 3, "teacher": 3, "student": 3}
    config.teacher.seed, config.distill.seed = 1, 0
    assert record.seeds(config) == {"splits": 3, "teacher": 1, "student": 0}


@pytest.mark.parametrize("results", [{"seed": 7}, {"seed": 2, "seeds": {"splits": 2, "teacher": 7, "student": 2}}])
def test_the_seed_of_another_runs_teacher_is_that_runs(tmp_path, results):
    write_json(tmp_path / "results.json", results)
    config = small_resnet_row("cifar10_random", None, data="cifar10", teacher="random")
    config.teacher.from_run = str(tmp_path)
    assert record.seeds(config) == {"splits": 0, "teacher": 7, "student": 0}


def row_of(config):
    """Returns a row, as far as the description of its measurements needs it."""
    return Row(config, None, None, settings.random_teacher(config), None, None, folder=None, made_from={})


def test_the_measurement_says_how_the_network_is_drawn():
    resnet = small_resnet_row("cifar10_random", None, data="cifar10", teacher="random")
    densenet = densenet_row("xray_random", None, data="xray", teacher="random")
    drawn = [record.measurement(row_of(config))["initialiser"] for config in (resnet, densenet)]
    uniform = "uniform in +-1/sqrt(fan_in), student and teacher drawn apart"
    assert drawn == [uniform, f"convolutions He normal, of variance 2/fan_in, heads {uniform}"]


def test_the_measurement_says_which_version_made_the_parcels():
    embedded = densenet_row("xray_random", None, data="xray", teacher="random")
    others = [embedded.copy_and_resolve_references(), small_resnet_row("c", None, data="cifar10", teacher="random")]
    others[0].data.path = "scans"
    assert record.measurement(row_of(embedded))["parcels"] == f"embedded, version {VERSION}"
    assert [record.measurement(row_of(config))["parcels"] for config in others] == [None, None]


@pytest.mark.parametrize(
    ("levels", "features"),
    [
        ("", "pooled features"),
        (" , ", "pooled features"),
        ("prep,layer2", "averages of levels"),
        ("prep:extremes", "extremes of levels"),
        ("prep:extremes, layer2", "averages and extremes of levels"),
    ],
)
def test_the_measurement_says_what_is_taken_of_the_activations(levels, features):
    config = small_resnet_row("cifar10_random", None, data="cifar10", teacher="random")
    config.network.levels, config.network.output_features = levels, 0
    measurement = record.measurement(row_of(config))
    assert measurement["output_features"] == features
    assert measurement["probe"].startswith(f"logistic regression on standardised {features} (")
