import pytest

from brittle_jax.config import AUXILIARY_DATASETS, DATASETS, OF_FILES, get_base_config, parse_range, validate
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


def test_the_catalogue_says_which_data_sets_there_are():
    assert DATASETS == ("cifar10", "cats_vs_dogs", "plant_pathology", "xray", "image_folder")
    assert OF_FILES == ("plant_pathology", "xray", "image_folder")
    assert AUXILIARY_DATASETS == (*DATASETS, "fashion_mnist", "stl10", "plant_village", "imagenet2012")
