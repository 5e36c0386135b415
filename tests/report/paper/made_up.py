"""Folders of runs of the paper's rows with made-up numbers, as the report reads them."""

import numpy as np

from brittle_jax import files, results
from brittle_jax.published import DETECTORS
from brittle_jax.report.paper import report
from brittle_jax.report.paper.collection import collect
from brittle_jax.report.paper.layout import teachers

CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
UNIMODAL = tuple(f"unimodal/{name}" for name in CLASSES)
MEASUREMENT = {
    "gradient_path": "student",
    "brittleness_denominator": "sum of per-feature variances of f - h, ddof 1",
    "random_batch_norm": None,
    "augmentation": None,
    "movement": "by the learning rate that is set",
}


def entry_of(name, kd, brittleness, *, movement=1.6, course=(), **changes):
    """Returns an entry of `configurations`; AUROC falls by 0.01 from detector to detector."""
    entry = {
        "name": name,
        "group": name.rpartition("/")[0] or "all",
        "auroc": {detector: kd - 0.01 * number for number, detector in enumerate(DETECTORS)},
        "brittleness": brittleness,
        "gradient_norm": 2 * brittleness,
        "error_trace": 2.0,
        "probe": {"accuracy": 0.4},
        "distillation": {
            "update_steps": 1580,
            "movement": movement,
            "recipe_movement": 1.6,
            "loss": 0.1,
            "mean_predictor_loss": 0.2,
            "course": list(course),
        },
    }
    return entry | changes


def content_of(row, entries, *, dataset="cifar10", seed=0, **changes):
    """Returns the content of a results.json."""
    content = {
        "format_version": results.FORMAT_VERSION,
        "row": row,
        "word": None,
        "dataset": dataset,
        "data_path": None,
        "synthetic_data": False,
        "seed": seed,
        "seeds": {"splits": seed, "teacher": seed, "student": seed},
        "reduced": {},
        "configurations": entries,
        "random_on_same_test": [],
        "measurement": MEASUREMENT,
        "skipped_inputs": [],
        "finished_at": "2021-04-21T00:00:00+00:00",
    }
    return content | changes


def write_run(folder, row, entries, *, with_files=False, **changes):
    """Writes a finished run; `with_files`: scores and errors too."""
    files.write_json(folder / "config.json", {"row": row, "data.name": "cifar10"})
    files.write_json(folder / "results.json", content_of(row, entries, **changes))
    for number, entry in enumerate(entries if with_files else ()):
        write_files(folder, entry, seed=number)


def write_files(folder, entry, seed=0, **arrays):
    """Writes scores of 20 normal and 30 anomalous samples, and errors of 40 images in 4 directions."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [20, 30])
    scores = {name: rng.normal(size=50) + 3 * entry["auroc"][name] * labels for name in DETECTORS}
    results.write_scores(folder / "scores" / f"{entry['name']}.csv", [f"{n}" for n in range(50)], labels, scores)
    errors = arrays.pop("error", (rng.normal(size=(40, 4)) * [4, 3, 2, 1]).astype(np.float32))
    path = folder / "brittleness" / f"{entry['name']}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        gradient_norm=np.full(40, 2 * entry["brittleness"], np.float32),
        error=errors,
        error_mean=errors.mean(axis=0, dtype=float),
        error_variance=errors.var(axis=0, ddof=1, dtype=float),
        **arrays,
    )


def write_rows(folder, numbers, *, names=("unimodal/cat",), **changes):
    """Writes a run of each row of CIFAR-10, in the paper's order, with given pairs of KD AUROC and brittleness."""
    rows = list(teachers("cifar10"))[: len(numbers)]
    for row, (kd, brittleness) in zip(rows, numbers, strict=True):
        write_run(folder / row, row, [entry_of(name, kd, brittleness) for name in names], **changes)
    return rows


def made_of(folder):
    """Returns the report of the runs below a folder."""
    return report.make(collect(folder).runs, has_runs=True)
