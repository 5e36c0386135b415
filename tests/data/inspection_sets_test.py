"""Industrial anomaly data sets in their published layouts, written here file by file."""

import collections
import itertools
import json
from dataclasses import replace

import pytest

from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.splits import Splitting
from brittle_jax.errors import UserError
from tests.data.folders import save


def write_mvtec(folder, parts):
    """Saves so many pictures in each folder of an object."""
    for part, count in parts.items():
        for number in range(count):
            save(folder / part / f"{number:03d}.png", 10 * number)


BOTTLE = {"train/good": 22, "test/good": 4, "test/broken": 3, "test/scratch": 2, "ground_truth/broken": 3}


def write_visa(folder, objects=("candle", "pcb1")):
    lines = ["object,split,label,image,mask"]
    for name in objects:
        for number in range(24):
            image = f"{name}/Data/Images/Normal/{number:04d}.JPG"
            save(folder / image, 10 * number)
            lines.append(f"{name},{'train' if number < 20 else 'test'},normal,{image},")
        for number in range(3):
            image = f"{name}/Data/Images/Anomaly/{number:03d}.JPG"
            save(folder / image, 10 * number)
            lines.append(f"{name},test,anomaly,{image},{name}/Data/Masks/Anomaly/{number:03d}.png")
    (folder / "split_csv").mkdir()
    (folder / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def real_iad_content(name):
    """Returns the JSON of an object: five things that train, one that tests, and one whose dent shows in one view."""
    content = {"meta": {"normal_class": "OK", "prefix": f"{name}/"}, "train": [], "test": []}
    for number in range(6):
        for view in range(1, 6):
            picture = f"OK/S{number:04d}/{name}_{number:04d}_OK_C{view}_20230922.jpg"
            item = {"category": name, "anomaly_class": "OK", "image_path": picture, "mask_path": None}
            content["train" if number < 5 else "test"].append(item)
    for view in range(1, 6):
        picture = f"NG/BX/S0001/{name}_0001_NG_BX_C{view}_20230922.jpg"
        kind, mask = ("BX", picture.replace("jpg", "png")) if view == 1 else ("OK", None)
        content["test"].append({"category": name, "anomaly_class": kind, "image_path": picture, "mask_path": mask})
    return content


def write_real_iad(folder, sizes="realiad_1024", jsons="realiad_jsons/realiad_jsons", objects=("audiojack", "mint")):
    for name in objects:
        content = real_iad_content(name)
        for item in content["train"] + content["test"]:
            save(folder / sizes / name / item["image_path"], len(item["image_path"]))
        (folder / jsons).mkdir(parents=True, exist_ok=True)
        (folder / jsons / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def counts(dataset):
    """Returns how many samples there are of each class and split."""
    labels = [dataset.samples.classes[label] for label in dataset.samples.labels]
    return dict(collections.Counter(zip(labels, dataset.samples.official_split.tolist(), strict=True)))


def said_of_kinds(capsys):
    lines = capsys.readouterr().out.splitlines()
    return list(itertools.takewhile(lambda line: line.startswith("  "), lines[1:]))


def test_mvtec_is_read_as_published(settings, tmp_path, capsys):
    write_mvtec(tmp_path / "bottle", BOTTLE)
    (tmp_path / "bottle" / "license.txt").write_text("free")
    settings = replace(settings, path=str(tmp_path / "bottle"))
    dataset = load("image_folder", settings)
    assert dataset.name == "image_folder" and dataset.samples.classes == ("normal", "broken", "scratch")
    assert counts(dataset) == {
        ("normal", "train"): 22,
        ("normal", "test"): 4,
        ("broken", "test"): 3,
        ("scratch", "test"): 2,
    }
    assert dataset.samples.ids.tolist()[:4] == ["test/broken/000.png", "test/broken/001.png", "test/broken/002.png"] + [
        "test/good/000.png"
    ]
    output = capsys.readouterr()
    assert "bottle: 31 pictures, in the layout of MVTec AD\n" in output.out
    assert output.out.splitlines()[1:4] == [
        "  normal   26 pictures  22 train, 4 test  train/good/, test/good/",
        "  broken    3 pictures  3 test            test/broken/",
        "  scratch   2 pictures  2 test            test/scratch/",
    ]
    assert output.err == ""


def test_the_validation_pictures_of_mvtec_loco_calibrate(settings, tmp_path):
    parts = {"train/good": 20, "validation/good": 3, "test/good": 2, "test/logical_anomalies": 2}
    write_mvtec(tmp_path / "juice_bottle", parts)
    save(tmp_path / "juice_bottle" / "ground_truth" / "logical_anomalies" / "000" / "000.png")
    settings = replace(settings, path=str(tmp_path / "juice_bottle"))
    dataset = load("image_folder", settings)
    (configuration,) = one_class.configurations(dataset, "all", Splitting(seed=0, train_fraction=0.8))
    assert len(configuration.train) == 20
    assert dataset.samples.ids[configuration.calibration].tolist() == [
        f"validation/good/{number:03d}.png" for number in range(3)
    ]
    assert configuration.test_labels.tolist() == [0, 0, 1, 1]


def test_folders_outside_mvtecs_layout_are_left_out_with_a_warning(settings, tmp_path, capsys):
    write_mvtec(tmp_path / "bottle", {**BOTTLE, "extra": 2, ".cache": 1, "train/rusty": 2})
    settings = replace(settings, path=str(tmp_path / "bottle"))
    dataset = load("image_folder", settings)
    assert counts(dataset)["rusty", "train"] == 2 and len(dataset.samples.ids) == 33
    warnings = capsys.readouterr().err
    assert "left out extra, which is not part of MVTec AD's layout\n" in warnings
    assert "2 anomalous pictures marked train (2 rusty) will not be tested; only the linear probe" in warnings


def test_masks_in_mvtecs_layout_are_left_out_with_a_warning(settings, tmp_path, capsys):
    write_mvtec(tmp_path / "bottle", {"train/good": 20, "test/good": 4, "test/bad": 2, "test/bad/ground_truth": 2})
    for place in ("test/bad/000_mask.png", "train/good/000_MASK.png", "test/Ground_Truth/bad/000.png"):
        save(tmp_path / "bottle" / place)
    settings = replace(settings, path=str(tmp_path / "bottle"))
    dataset = load("image_folder", settings)
    assert counts(dataset) == {("normal", "train"): 20, ("normal", "test"): 4, ("bad", "test"): 2}
    assert "bottle: left out 5 masks, such as test/Ground_Truth/bad/000.png\n" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["test/OK", "test/normal", "test/Good", "train/Normals", "test/bad/good"])
def test_folders_in_mvtecs_layout_whose_names_mean_normal_are_refused_as_anomalies(settings, tmp_path, named):
    write_mvtec(tmp_path / "bottle", {"train/good": 20, "test/good": 1, "test/bad": 2, named: 4})
    settings = replace(settings, path=str(tmp_path / "bottle"))
    message = (
        f"bottle: pictures in {named} would count as anomalies, .*: rename that folder to good, or move the pictures$"
    )
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


def test_subfolders_of_mvtecs_good_folders_may_have_any_name(settings, tmp_path):
    write_mvtec(tmp_path / "bottle", {"train/good/ok": 20, "test/good/Normal": 1, "test/bad": 2, "test/OK/empty": 0})
    settings = replace(settings, path=str(tmp_path / "bottle"))
    assert counts(load("image_folder", settings)) == {
        ("normal", "train"): 20,
        ("normal", "test"): 1,
        ("bad", "test"): 2,
    }


def test_a_set_with_another_name_for_mvtecs_good_is_asked_to_rename_it(settings, tmp_path):
    write_mvtec(tmp_path / "bottle", {"train/OK": 2, "test/OK": 1, "test/bad": 1})
    settings = replace(settings, path=str(tmp_path / "bottle"))
    with pytest.raises(UserError, match="has train/OK but no train/good, as in MVTec AD: rename it to good$"):
        load("image_folder", settings)


def test_a_published_layout_without_normal_pictures_is_refused(settings, tmp_path):
    write_mvtec(tmp_path / "bottle", {"test/bad": 1})
    (tmp_path / "bottle" / "train" / "good").mkdir(parents=True)
    settings = replace(settings, path=str(tmp_path / "bottle"))
    with pytest.raises(UserError, match=r"has no normal pictures \(in the layout of MVTec AD\)$"):
        load("image_folder", settings)


def test_a_published_split_without_normal_test_pictures_does_not_mention_fractions(settings, tmp_path):
    write_mvtec(tmp_path / "bottle", {"train/good": 3, "test/bad": 1})
    settings = replace(settings, path=str(tmp_path / "bottle"))
    dataset = load("image_folder", settings)
    with pytest.raises(UserError, match="no normal test samples: the given split has none, mark some as test$"):
        one_class.configurations(dataset, "all", Splitting(seed=0, train_fraction=0.8))


def test_visa_is_read_by_its_split_file(settings, tmp_path, capsys):
    write_visa(tmp_path / "VisA")
    settings = replace(settings, path=str(tmp_path / "VisA" / "candle"))
    dataset = load("image_folder", settings)
    assert dataset.samples.classes == ("normal", "anomaly")
    assert counts(dataset) == {("normal", "train"): 20, ("normal", "test"): 4, ("anomaly", "test"): 3}
    assert dataset.samples.ids.tolist()[0] == "Data/Images/Anomaly/000.JPG"
    assert said_of_kinds(capsys) == [
        "  normal   24 pictures  20 train, 4 test  Data/Images/Normal/",
        "  anomaly   3 pictures  3 test            Data/Images/Anomaly/",
    ]


def test_visa_without_its_split_file_says_where_it_belongs(settings, tmp_path):
    write_visa(tmp_path / "VisA")
    (tmp_path / "VisA" / "split_csv" / "1cls.csv").unlink()
    for path, images in (("VisA/candle", "Data/Images"), ("VisA", "candle/Data/Images")):
        settings = replace(settings, path=str(tmp_path / path))
        message = f"has {images}, as in VisA, but VisA's split file is missing: put 1cls.csv into .*/VisA/split_csv$"
        with pytest.raises(UserError, match=message):
            load("image_folder", settings)


def test_a_split_of_visa_may_be_written_on_windows(settings, tmp_path):
    write_visa(tmp_path / "VisA", objects=["candle"])
    table = tmp_path / "VisA" / "split_csv" / "1cls.csv"
    text = table.read_text(encoding="utf-8").replace("/", "\\").replace(",train,normal,", ",TRAIN,Normal,")
    table.write_text(text, encoding="utf-8")
    settings = replace(settings, path=str(tmp_path / "VisA" / "candle"))
    dataset = load("image_folder", settings)
    assert counts(dataset) == {("normal", "train"): 20, ("normal", "test"): 4, ("anomaly", "test"): 3}


def test_an_object_may_be_the_working_folder(settings, tmp_path, monkeypatch):
    write_visa(tmp_path / "VisA")
    monkeypatch.chdir(tmp_path / "VisA" / "candle")
    settings = replace(settings, path=".")
    assert len(load("image_folder", settings).samples.ids) == 27


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("candle,train,normal,", "candle,training,normal,", "line 2: split is 'training', not one of train, test"),
        ("candle,train,normal,", "candle,train,good,", "line 2: label is 'good', not one of normal, anomaly"),
        ("candle,train,normal,", "candle,train,,", "line 2: no label"),
        ("object,split", "thing,split", "has no column object: its header is 'thing,split,label,image,mask'"),
        ("candle,", "candles,", "has no object 'candle': it has candles, pcb1"),
        (
            "Normal/0001.JPG",
            "Normal/0000.JPG",
            "1cls.csv: lines 2 and 3 both name 'Data/Images/Normal/0000.JPG': remove one",
        ),
        ("candle/Data/Images/Normal/0000", "pcb1/Data/Images/Normal/0000", "0000.JPG' \\(leads out of the folder\\)"),
        ("Normal/0000.JPG", "Normal/x.JPG", "x.JPG' \\(cannot be read: No such file"),
    ],
)
def test_an_invalid_split_of_visa_is_refused(settings, tmp_path, old, new, message):
    write_visa(tmp_path / "VisA")
    table = tmp_path / "VisA" / "split_csv" / "1cls.csv"
    count = -1 if old == "candle," else 1
    table.write_text(table.read_text().replace(old, new, count))
    settings = replace(settings, path=str(tmp_path / "VisA" / "candle"))
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


@pytest.mark.parametrize(
    ("sizes", "jsons"),
    [
        ("realiad_1024", "realiad_jsons/realiad_jsons"),
        ("realiad_256", "realiad_jsons"),
        ("realiad_raw", "realiad_raw"),
        ("realiad_512", "realiad_512/audiojack"),
    ],
)
def test_real_iad_is_read_by_the_json_of_its_object(settings, tmp_path, capsys, sizes, jsons):
    write_real_iad(tmp_path, sizes, jsons, ["audiojack"])
    settings = replace(settings, path=str(tmp_path / sizes / "audiojack"))
    dataset = load("image_folder", settings)
    assert dataset.samples.classes == ("normal", "BX")
    assert counts(dataset) == {("normal", "train"): 25, ("normal", "test"): 9, ("BX", "test"): 1}
    assert dataset.samples.ids.tolist()[0] == "NG/BX/S0001/audiojack_0001_NG_BX_C1_20230922.jpg"
    assert dataset.samples.groups.tolist() == ["NG/BX/S0001"] * 5 + [
        f"OK/S{number:04d}" for number in range(6) for _ in "12345"
    ]
    assert said_of_kinds(capsys) == [
        "  normal  34 pictures  25 train, 9 test  OK/, NG/",
        "  BX       1 picture   1 test            NG/BX/S0001/",
    ]


def change(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["meta"], None, "the whole file has no meta that is an object"),
        (["meta", "normal_class"], 3, "meta.normal_class is '3', not the name of a class"),
        (["meta", "prefix"], "mint/", "meta.prefix is 'mint/', not the object 'audiojack'"),
        (["test"], {}, "the whole file has no test that is a list"),
        (["train", 2], "x.jpg", r"train\[2\] has no anomaly_class that is text"),
        (["test", 4, "image_path"], 7, r"test\[4\] has no image_path that is text"),
        (["test", 4, "anomaly_class"], "", r"test\[4\] has no anomaly_class that is text"),
        (["test", 0, "image_path"], "../../x.jpg", r"'../../x.jpg' \(leads out of the folder\)"),
    ],
)
def test_an_invalid_split_of_real_iad_is_refused(settings, tmp_path, path, value, message):
    write_real_iad(tmp_path, objects=["audiojack"])
    file = tmp_path / "realiad_jsons" / "realiad_jsons" / "audiojack.json"
    content = json.loads(file.read_text())
    change(content, path, value)
    file.write_text(json.dumps(content))
    settings = replace(settings, path=str(tmp_path / "realiad_1024" / "audiojack"))
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x80"])
def test_a_file_that_is_not_json_is_named(settings, tmp_path, text):
    write_real_iad(tmp_path, objects=["audiojack"])
    (tmp_path / "realiad_jsons" / "realiad_jsons" / "audiojack.json").write_text(text, encoding="latin-1")
    settings = replace(settings, path=str(tmp_path / "realiad_1024" / "audiojack"))
    with pytest.raises(UserError, match="audiojack.json is not a split of Real-IAD"):
        load("image_folder", settings)


def test_pictures_of_real_iad_without_its_json_say_what_is_missing(settings, tmp_path):
    write_real_iad(tmp_path, objects=["audiojack"])
    (tmp_path / "realiad_jsons" / "realiad_jsons" / "audiojack.json").unlink()
    settings = replace(settings, path=str(tmp_path / "realiad_1024" / "audiojack"))
    with pytest.raises(
        UserError, match="has OK and NG, as in Real-IAD, but no normal: put audiojack.json beside the folder, or"
    ):
        load("image_folder", settings)


def test_the_root_of_a_set_names_its_objects(settings, tmp_path):
    write_mvtec(tmp_path / "mvtec" / "bottle", {"train/good": 1})
    write_mvtec(tmp_path / "mvtec" / "cable", {"train/good": 1})
    write_visa(tmp_path / "visa")
    write_real_iad(tmp_path / "iad")
    for root, objects, example in (
        ("mvtec", "bottle, cable", "mvtec/bottle"),
        ("visa", "candle, pcb1", "visa/candle"),
        ("iad", "realiad_1024/audiojack, realiad_1024/mint", "iad/realiad_1024/audiojack"),
        ("iad/realiad_1024", "audiojack, mint", "iad/realiad_1024/audiojack"),
    ):
        settings = replace(settings, path=str(tmp_path / root))
        with pytest.raises(UserError, match=f"holds {objects}: name one of them, such as .*data.path=.*/{example}$"):
            load("image_folder", settings)


def test_a_part_of_an_object_names_the_object(settings, tmp_path):
    write_mvtec(tmp_path / "bottle", BOTTLE)
    for part in ("test", "test/good", "train/good", "test/broken"):
        settings = replace(settings, path=str(tmp_path / "bottle" / part))
        with pytest.raises(UserError, match="is part of .*/bottle, in the layout of MVTec AD: name that folder"):
            load("image_folder", settings)


def test_links_at_the_top_of_an_object_are_followed_and_others_are_named(settings, tmp_path):
    write_mvtec(tmp_path / "bottle", BOTTLE)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bottle" / "train").rename(tmp_path / "elsewhere" / "train")
    (tmp_path / "bottle" / "train").symlink_to(tmp_path / "elsewhere" / "train")
    settings = replace(settings, path=str(tmp_path / "bottle"))
    assert counts(load("image_folder", settings))["normal", "train"] == 22
    (tmp_path / "bottle" / "test" / "broken").rename(tmp_path / "elsewhere" / "broken")
    (tmp_path / "bottle" / "test" / "broken").symlink_to(tmp_path / "elsewhere" / "broken")
    with pytest.raises(UserError, match=r"1 of 29 .*'test/broken' \(a link that leads out of the folder\)"):
        load("image_folder", settings)


def test_an_object_of_visa_may_be_a_link(settings, tmp_path):
    write_visa(tmp_path / "VisA", objects=["candle"])
    (tmp_path / "VisA" / "candle").rename(tmp_path / "elsewhere")
    (tmp_path / "VisA" / "candle").symlink_to(tmp_path / "elsewhere")
    settings = replace(settings, path=str(tmp_path / "VisA" / "candle"))
    assert len(load("image_folder", settings).samples.ids) == 27
