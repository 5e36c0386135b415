"""The published numbers, as the paper's tables and figures have them."""

import pytest

from brittle_jax.report.paper.layout import SETTINGS, TABLES, is_paper_row, published, teachers


def test_the_36_rows_have_teachers():
    rows = [row for dataset in ("cats_vs_dogs", "cifar10", "plant_pathology", "xray") for row in teachers(dataset)]
    assert len(set(rows)) == 36 and all(map(is_paper_row, rows)) and not is_paper_row("image_folder")
    assert teachers("cifar10")["cifar10_fmnist_classification"] == ("FMNIST Class.", "class", False)
    assert teachers("cats_vs_dogs")["cats_vs_dogs_cvd_denoising"] == ("CvD DAE", "dae", True)
    assert teachers("xray")["xray_rotnet"] == ("X-ray RotNet", "rotnet", True)
    assert [teachers("plant_pathology")[f"plant_{name}"].is_own for name in ("baseline", "random", "rotnet")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("setting", "row", "kd", "mahalanobis"),
    [
        ("cats_vs_dogs", "cats_vs_dogs_baseline", 89.37, 85.93),  # Table 2
        ("cats_vs_dogs", "cats_vs_dogs_stl_denoising", 53.65, 51.52),
        ("cifar10", "cifar10_baseline", 91.52, 79.77),  # Table 3
        ("cifar10", "cifar10_random", 55.53, 54.19),
        ("plant", "plant_imagenet", 70.66, 49.45),  # Table 4
        ("xray", "xray_rotnet", 96.41, 60.06),  # Table 5
    ],
)
def test_means_of_the_longer_tables_are_those_that_the_paper_prints(setting, row, kd, mahalanobis):
    known = published(setting)
    position = known.rows.index(row)
    assert known.columns["kd"][position] == pytest.approx(kd, abs=0.006)
    assert known.columns["mahalanobis_full"][position] == pytest.approx(mahalanobis, abs=0.006)


def test_tables_have_the_columns_of_the_paper():
    assert {number: len(table.quantities) for number, table in TABLES.items()} == {
        **dict.fromkeys((2, 3, 4, 5), 3),
        **dict.fromkeys((6, 7, 10, 11), 6),
        **dict.fromkeys((8, 9), 5),
    }
    assert "probe_accuracy" not in TABLES[8].quantities


def test_a_configuration_belongs_to_a_part_of_a_setting():
    assert SETTINGS["cifar10"].part_of("multimodal/cat") == "multimodal"
    assert SETTINGS["unimodal"].part_of("multimodal/cat") is None
    assert SETTINGS["cat"].part_of("cat") == "cat" and SETTINGS["cat"].part_of("dog") is None
    assert SETTINGS["cifar10"].num_configurations == 20 and SETTINGS["cats_vs_dogs"].num_configurations == 2
