"""Tables of your own images."""

from dataclasses import replace

import pytest

from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.splits import Splitting
from brittle_jax.errors import UserError
from tests.data.folders import save


def with_table(settings, folder, text):
    """Returns the settings that name a table, which is written into a folder."""
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return replace(settings, path=str(folder / "table.csv"))


def test_a_table_without_test_pictures_keeps_its_splits(settings, folder):
    settings = with_table(
        settings, folder, "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,calibration\n"
    )
    dataset = load("image_folder", settings)
    assert dataset.samples.official_split.tolist() == ["train", "calibration"]
    message = "has no normal test samples: the given split has none, mark some as test$"
    with pytest.raises(UserError, match=message):
        one_class.configurations(dataset, "all", Splitting(seed=0, train_fraction=0.8))


def test_the_order_of_a_table_changes_nothing(settings, folder):
    lines = [f"normal/{number}.png,normal" for number in range(6)] + ["scratch/0.jpg,scratch"]
    chosen = []
    for ordered in (lines, lines[::-1]):
        settings = with_table(settings, folder, "\n".join(["path,label", *ordered]) + "\n")
        dataset = load("image_folder", settings)
        (configuration,) = one_class.configurations(
            dataset, "all", Splitting(seed=0, train_fraction=0.8), max_train_samples=2
        )
        chosen.append(dataset.samples.ids[configuration.train].tolist())
    assert chosen[0] == chosen[1]


def test_other_labels_are_another_data_set(settings, folder):
    keys = []
    for label in ("normal", "scratch"):
        settings = with_table(settings, folder, f"path,label\nnormal/0.png,normal\nnormal/1.png,{label}\n")
        keys.append(load("image_folder", settings).identity()["sha256"])
    assert keys[0] != keys[1]


def test_a_table_gives_labels_and_splits(settings, folder):
    settings = with_table(
        settings,
        folder,
        "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,calibration\nnormal/2.png,normal,test\n"
        "scratch/0.jpg,scratch,test\n",
    )
    dataset = load("image_folder", settings)
    assert dataset.samples.ids.tolist() == ["normal/0.png", "normal/1.png", "normal/2.png", "scratch/0.jpg"]
    assert dataset.samples.classes == ("normal", "scratch")
    assert dataset.samples.official_split.tolist() == ["train", "calibration", "test", "test"]


def test_a_table_without_splits_leaves_them_to_the_draw(settings, folder):
    settings = with_table(settings, folder, "\ufeffpath,label\nnormal/0.png,normal\nnormal/1.png,normal\n")
    assert load("image_folder", settings).samples.official_split is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty"),
        ("file,label\na.png,normal\n", "no column path"),
        ("path,label\nnormal/0.png,\n", "line 2: no label"),
        ("path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,\n", "line 3: split is ''"),
        ("path,label,split\nnormal/0.png,normal,training\n", "line 2: split is 'training', not one of train"),
        (
            "path,label\nnormal/0.png,normal\nnormal/0.png,normal\n",
            "table.csv: lines 2 and 3 both name 'normal/0.png'",
        ),
        (
            "path,label\nnormal/0.png,normal\n\n./normal//0.png,scratch\n",
            "table.csv: lines 2 and 4 both name 'normal/0.png': remove one$",
        ),
        (
            "path,label\nnormal/1.png,normal\nnormal/0.png,normal\nnormal\\0.png,normal\n",
            "table.csv: lines 3 and 4 both name 'normal/0.png': remove one$",
        ),
        ("path,label\n\n\nnormal/0.png,Normal\n", "line 4: label is 'Normal': write 'normal'"),
        ("path,label\nnormal/\0.png,normal\n", "cannot be used"),
        ("path,label\nnormal/0.png,good\n", "line 2: label is 'good': write 'normal'"),
        ("path,label\nnormal/0.png,scratch\n", "table.csv has no line whose label is normal: its labels are scratch$"),
        ("path,label\n/etc/passwd,normal\n", "'/etc/passwd' \\(leads out of the folder\\)"),
        ("path,label\n../../x.png,normal\n", "'../../x.png' \\(leads out of the folder\\)"),
        ("path,label\nmissing.png,normal\n", "'missing.png' \\(cannot be read: No such file or directory\\)"),
    ],
)
def test_an_invalid_table_is_refused(settings, folder, text, message):
    settings = with_table(settings, folder, text)
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_usual_separators_and_encodings_are_read(settings, folder, separator, encoding):
    rows = [("Path ", " LABEL", "Split"), ("normal/0.png", "normal", "train"), ("scratch/0.jpg", "Größe", "test")]
    text = "\r\n".join(separator.join(row) for row in [*rows, ("", "", "")]) + "\r\n"
    (folder / "table.csv").write_bytes(text.encode(encoding))
    settings = replace(settings, path=str(folder / "table.csv"))
    dataset = load("image_folder", settings)
    assert dataset.samples.ids.tolist() == ["normal/0.png", "scratch/0.jpg"]
    assert dataset.samples.classes == ("normal", "Größe")
    assert dataset.samples.official_split.tolist() == ["train", "test"]


def test_quoted_fields_may_have_separators(settings, folder):
    save(folder / "normal" / "a,b.png")
    settings = with_table(settings, folder, 'path, label\n"normal/a,b.png", "normal"\n')
    assert load("image_folder", settings).samples.ids.tolist() == ["normal/a,b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n\n", "its first line is empty, but must name the columns"),
        (b"path,label\n", "has a header but no lines below it"),
        (b"path,label\n,\n , \n", "has a header but no lines below it"),
        (
            b"File;Kind\na.png;normal\n",
            r"no column label or path: its header is 'File;Kind' \(columns separated by semicolons\)$",
        ),
        (b"file\tlabel\n", r"no column path: its header is 'file\\tlabel' \(columns separated by tabs\)$"),
        (b"a b\n", r"no column label or path: its header is 'a b' \(a single column\)$"),
        (b"path,label,Path\na,b,c\n", "header names path more than once: rename or remove the duplicates$"),
        (b"path,label,Path,LABEL\na,b,c,d\n", "header names label and path more than once"),
        (b"path,label\n,,\n,normal\n", "line 3: no path$"),
        (b"path,label,split\n,,train\n", "line 2: no path or label$"),
        (b"path,label\nnormal/a,b.png,normal\n", "line 2: 3 fields, but 2 columns"),
        ("path,label\nä.png,normal\n".encode("latin-1"), "is not a table in UTF-8 or UTF-16: save it as CSV in UTF-8"),
        (b"PK\x03\x04\xff\xff", "is not a table in UTF-8 or UTF-16"),
        ("path,label".encode("utf-16") + b"\n", "is not a table in UTF-8 or UTF-16"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused_with_the_reason(settings, folder, content, message):
    (folder / "table.csv").write_bytes(content)
    settings = replace(settings, path=str(folder / "table.csv"))
    with pytest.raises(UserError, match=message):
        load("image_folder", settings)


def test_anomalies_that_are_not_tested_are_counted(settings, folder, capsys):
    settings = with_table(
        settings,
        folder,
        "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,test\nscratch/0.jpg,scratch,train\n"
        "dent/2.tif,dent,train\ndent/deep/1.bmp,dent,calibration\n",
    )
    load("image_folder", settings)
    printed = capsys.readouterr().err
    marked_train = (
        "2 anomalous pictures marked train (1 dent, 1 scratch) will not be tested; only the linear probe and "
    )
    assert f"table.csv: {marked_train}the supervised baseline learn from them\n" in printed
    assert "1 anomalous picture marked calibration (1 dent) will not be tested; nothing uses them" in printed


def test_what_a_table_holds_is_announced(settings, folder, capsys):
    settings = with_table(
        settings,
        folder,
        "path,label,split\nnormal/0.png,normal,train\nnormal/1.png,normal,test\nscratch/0.jpg,bad,test\n",
    )
    load("image_folder", settings)
    assert capsys.readouterr().out.splitlines()[:3] == [
        f"{folder}: 3 pictures, from a table",
        "  normal  2 pictures  1 train, 1 test  normal/",
        "  bad     1 picture   1 test           scratch/",
    ]


def test_backslashes_separate_folders(settings, folder):
    save(folder / "normal" / "a" / "7.png")
    settings = with_table(settings, folder, "path,label\nnormal\\0.png,normal\n.\\normal\\a\\7.png,normal\n")
    assert load("image_folder", settings).samples.ids.tolist() == ["normal/0.png", "normal/a/7.png"]


def test_a_file_whose_very_name_has_a_backslash_is_read(settings, folder):
    save(folder / "normal" / "a\\b.png")
    settings = with_table(settings, folder, "path,label\nnormal/a\\b.png,normal\nnormal\\0.png,normal\n")
    assert load("image_folder", settings).samples.ids.tolist() == ["normal/0.png", "normal/a\\b.png"]


def test_a_missing_file_with_backslashes_is_refused(settings, folder):
    settings = with_table(settings, folder, "path,label\nnormal/0.png,normal\nC:\\img\\x.png,normal\n")
    with pytest.raises(UserError, match="'C:/img/x.png' .cannot be read: No such file or directory"):
        load("image_folder", settings)


def test_splits_may_be_in_upper_or_lower_case(settings, folder):
    lines = ["normal/0.png,normal,TRAIN", "normal/1.png,normal,Calibration", "normal/2.png,normal,tEST"]
    settings = with_table(settings, folder, "\n".join(["path,label,split", *lines]))
    assert load("image_folder", settings).samples.official_split.tolist() == ["train", "calibration", "test"]


def test_labels_of_a_table_that_contain_a_word_for_normal_cause_a_warning(settings, folder, capsys):
    settings = with_table(settings, folder, "path,label\nnormal/0.png,normal\nnormal/1.png,normal pictures\n")
    load("image_folder", settings)
    assert "table.csv: normal pictures counts as a kind of anomaly, though its name says normal" in (
        capsys.readouterr().err
    )
