"""Tables of pictures of one's own."""

import pytest

from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError


def write_table(folder, text):
    table = folder / "table.csv"
    table.write_text(text)
    return str(table)


def test_a_table_without_test_pictures_keeps_its_splits(config, folder):
    config.data.path = write_table(
        folder, "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,calibration\n"
    )
    images = load("image_folder", config)
    assert images.official_split.tolist() == ["train", "calibration"]
    with pytest.raises(UserError, match="has no normal test samples"):
        one_class.configurations(images, config)


def test_the_order_of_a_table_changes_nothing(config, folder):
    lines = [f"normal/{number}.png,normal" for number in range(6)] + ["scratch/0.jpg,scratch"]
    config.data.max_train_samples = 2
    chosen = []
    for ordered in (lines, lines[::-1]):
        config.data.path = write_table(folder, "\n".join(["path,label", *ordered]) + "\n")
        images = load("image_folder", config)
        (configuration,) = one_class.configurations(images, config)
        chosen.append(images.ids[configuration.train].tolist())
    assert chosen[0] == chosen[1]


def test_other_labels_are_another_data_set(config, folder):
    keys = []
    for label in ("normal", "scratch"):
        config.data.path = write_table(folder, f"path,label\nnormal/0.png,normal\nnormal/1.png,{label}\n")
        keys.append(load("image_folder", config).identity()["sha256"])
    assert keys[0] != keys[1]


def test_a_table_gives_labels_and_splits(config, folder):
    config.data.path = write_table(
        folder,
        "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,calibration\nnormal/2.png,normal,test\n"
        "scratch/0.jpg,scratch,test\n",
    )
    images = load("image_folder", config)
    assert images.ids.tolist() == ["normal/0.png", "normal/1.png", "normal/2.png", "scratch/0.jpg"]
    assert images.classes == ("normal", "scratch")
    assert images.official_split.tolist() == ["train", "calibration", "test", "test"]


def test_a_table_without_splits_leaves_them_to_the_draw(config, folder):
    config.data.path = write_table(folder, "\ufeffpath,label\nnormal/0.png,normal\nnormal/1.png,normal\n")
    assert load("image_folder", config).official_split is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty"),
        ("file,label\na.png,normal\n", "no column path"),
        ("path,label\nnormal/0.png,\n", "line 2: no label"),
        ("path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,\n", "line 3: split is ''"),
        ("path,label,split\nnormal/0.png,normal,training\n", "line 2: split is 'training', not one of train"),
        ("path,label\nnormal/0.png,normal\nnormal/0.png,normal\n", "two samples have the id 'normal/0.png'"),
        ("path,label\nnormal/0.png,normal\n./normal//0.png,normal\n", "two samples have the id 'normal/0.png'"),
        ("path,label\n\n\nnormal/0.png,Normal\n", "line 4: label is 'Normal', write 'normal'"),
        ("path,label\nnormal/\0.png,normal\n", "cannot be used"),
        ("path,label\nnormal/0.png,scratch\n", "no pictures of the class normal"),
        ("path,label\n/etc/passwd,normal\n", "'/etc/passwd' \\(leads out of the folder\\)"),
        ("path,label\n../../x.png,normal\n", "'../../x.png' \\(leads out of the folder\\)"),
        ("path,label\nmissing.png,normal\n", "'missing.png' \\(cannot be read: No such file or directory\\)"),
    ],
)
def test_a_table_that_does_not_hold_is_refused(config, folder, text, message):
    config.data.path = write_table(folder, text)
    with pytest.raises(UserError, match=message):
        load("image_folder", config)
