import pytest

from brittle_jax.config import AUXILIARY_DATASETS, DATASETS, OF_FILES, get_base_config, parse_range, seeds_of, validate
from brittle_jax.errors import UserError


def test_ranges_are_two_numbers():
    assert parse_range(" ") is None
    assert parse_range("-1000, 3000.5") == (-1000, 3000.5)


@pytest.mark.parametrize("text", ["4095", "0,1,2", "a,b", "5,5", "9,0", "0,inf", "nan,1"])
def test_an_invalid_range_is_refused(text):
    config = get_base_config()
    config.data.name, config.data.intensity_range = "image_folder", text
    config.teacher.task = "random"
    with pytest.raises(UserError, match=f"data.intensity_range='{text}': give two numbers"):
        validate(config)


@pytest.fixture
def config():
    config = get_base_config()
    config.data.name, config.teacher.task = "cifar10", "random"
    return config


@pytest.mark.parametrize(("text", "seeds"), [("", ()), (" ", ()), ("3", (3,)), ("0, 2,1", (0, 2, 1))])
def test_seeds_are_whole_numbers(config, text, seeds):
    config.seeds = text
    validate(config)
    assert seeds_of(config) == seeds


@pytest.mark.parametrize("text", ["0,0", "1,-1", "0;1", "0,", "1.5", "all"])
def test_seeds_that_are_none_are_refused(config, text):
    config.seeds = text
    with pytest.raises(
        UserError, match=f"^seeds='{text}': give different whole numbers, 0 or more, separated by commas"
    ):
        validate(config)


def test_a_seed_and_seeds_exclude_each_other(config):
    config.seeds, config.seed = "0,1", 2
    with pytest.raises(UserError, match="^seed=2 and seeds='0,1' are both set: leave out one of them$"):
        validate(config)


@pytest.mark.parametrize("name", ["teacher.seed", "distill.seed"])
def test_networks_may_have_seeds_of_their_own(config, name):
    for seed in (-1, 0, 7):
        config.update_from_flattened_dict({name: seed})
        validate(config)
    config.update_from_flattened_dict({name: -2})
    with pytest.raises(UserError, match=f"^{name}=-2: give 0 or more, or -1 for the value of seed$"):
        validate(config)


def test_the_catalogue_says_which_data_sets_there_are():
    assert DATASETS == ("cifar10", "cats_vs_dogs", "plant_pathology", "xray", "image_folder")
    assert OF_FILES == ("plant_pathology", "xray", "image_folder")
    assert AUXILIARY_DATASETS == (*DATASETS, "fashion_mnist", "stl10", "plant_village", "imagenet2012")
