import numpy as np
import tensorflow_datasets as tfds

from brittle_jax.data.datasets.loading import load
from brittle_jax.data.datasets.xray_parcels import XrayParcels, make_example, parcels_config
from brittle_jax.data.settings import ParcelSettings
from tests.data.settings import make_settings


def test_the_same_seed_makes_the_same_example():
    first, again, other = (make_example("threat", index, 64, 0) for index in (0, 0, 1))
    assert first["top"] == again["top"] != other["top"]
    assert {(entry["part"], entry["view"]) for entry in first["parts"]} == {
        (part, view) for part in ("slide", "barrel", "frame", "magazine", "ammunition") for view in ("top", "side")
    }


def test_parcels_in_many_splits_stay_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")  # made by two processes
    parcels = ParcelSettings(num_normal=5, num_threat=2, side_pixels=32, seed=0)
    builder = XrayParcels(data_dir=tmp_path, config=parcels_config(parcels, split_bytes=3 * 3 * 32**2))
    builder.download_and_prepare(file_format="array_record")
    assert len(list(tmp_path.rglob("*.array_record*"))) == 3  # of three parcels, but for the last
    dataset = load("xray", make_settings(tmp_path, parcels=parcels))
    expected = [f"soc_{number:05d}" for number in range(5)] + [f"threat_{number:05d}" for number in range(2)]
    assert dataset.samples.ids.tolist() == expected


def test_examples_are_stored_as_they_are_made(made_up):
    load("xray", made_up)
    builder = XrayParcels(data_dir=made_up.dir, config=parcels_config(made_up.parcels))
    stored = builder.as_data_source("all", decoders={"top": tfds.decode.SkipDecoding()})
    made = make_example("threat", 5, made_up.parcels.side_pixels, made_up.parcels.seed)
    last = stored[len(stored) - 1]
    assert last["id"].decode() == made["id"] == "threat_00005"
    assert last["top"] == made["top"]
    np.testing.assert_array_equal(last["parts"]["box"], [entry["box"] for entry in made["parts"]])
    assert len(stored[0]["parts"]["box"]) == 0


def test_a_data_set_knows_where_threats_lie(made_up):
    dataset = load("xray", made_up)
    made = make_example("threat", 5, made_up.parcels.side_pixels, made_up.parcels.seed)
    sample = dataset.samples.ids.tolist().index("threat_00005")
    expected = [(sample, dataset.views.index(entry["view"]), *entry["box"].tolist()) for entry in made["parts"]]
    boxes = dataset.anomaly_boxes[dataset.anomaly_boxes[:, 0] == sample]
    assert sorted(map(tuple, boxes.tolist())) == sorted(expected)
    threats = np.flatnonzero(dataset.samples.labels == dataset.samples.classes.index("threat"))
    assert np.unique(dataset.anomaly_boxes[:, 0]).tolist() == threats.tolist()
