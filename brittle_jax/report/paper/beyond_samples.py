"""Which differences between detectors, and between teachers, are more than chance: from the scores of test samples."""

import collections
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from brittle_jax import results
from brittle_jax.errors import DamagedError
from brittle_jax.evaluate.comparisons import Difference, bootstrap_aurocs, difference, holm
from brittle_jax.published import DETECTORS
from brittle_jax.report.paper.beyond import ANY_ROW, Cohorts, Section, SectionTable, Source, measured_sources
from brittle_jax.report.paper.beyond_runs import Problems, entries_of
from brittle_jax.report.paper.layout import QUANTITIES, teacher_of
from brittle_jax.report.paper.measured import Line, numbers_of
from brittle_jax.report.paper.plots import Bar, dots

_NUM_RESAMPLES = 300
_MOST_SEEDS = 5
_SIGNIFICANT = 0.05


def differences(cohorts: Cohorts, problems: Problems) -> Section:
    """Compares detectors of each teacher, and teachers, on the same resamples of the test samples."""
    rows, plots, notes = [], [], []
    for source in measured_sources(cohorts):
        aurocs, left_out = _bootstrap(source, problems)
        notes += [f"{source.label}: {who} is left out: {reason}." for who, reason in left_out.items()]
        of_detectors = {
            f"{row} {other}": difference(_of_seeds(seeds, list(seeds), "kd"), _of_seeds(seeds, list(seeds), other))
            for row, seeds in aurocs.items()
            for other in DETECTORS
            if other != "kd"
        }
        of_teachers = {}
        for first, second in itertools.combinations(aurocs, 2):
            if shared := [seed for seed in aurocs[first] if seed in aurocs[second]]:
                pair = (_of_seeds(aurocs[row], shared, "kd") for row in (first, second))
                of_teachers[f"{first} {second}"] = difference(*pair)
            else:
                notes.append(f"{source.label}: {_title(first)} and {_title(second)} have no seed in common.")
        rows += _difference_rows(
            source.label, of_detectors, lambda row, other: (f"{_title(row)}: KD", _detector(other))
        )
        rows += _difference_rows(source.label, of_teachers, lambda a, b: (_title(a), _title(b)))
        for family, what in ((of_detectors, "detector"), (of_teachers, "teacher")):
            significant = sum(
                p_value < _SIGNIFICANT for p_value in holm({k: d.p_value for k, d in family.items()}).values()
            )
            if family:
                notes.append(
                    f"{source.label}: {significant} of {len(family)} differences of {what}s have a corrected p below "
                    f"{_SIGNIFICANT}."
                )
        if not plots and aurocs:
            drawn = {
                _title(row): {
                    f"KD less {_detector(other)}": _bar(of_detectors[f"{row} {other}"])
                    for other in DETECTORS
                    if other != "kd"
                }
                for row in aurocs
            }
            text = f"KD AUROC less that of other detectors, {source.label}."
            plots = [dots(drawn, f"AUROC, points ({source.label})", text)]
    titles = ["setting", "first", "second", "seeds", "difference, points", "95%", "p", "p, corrected"]
    return Section(
        "differences",
        "Which differences are more than chance?",
        "AUROC of KD less that of the other detectors of a teacher, and KD AUROC of each teacher less that of each "
        f"other one, means over classes, with {_NUM_RESAMPLES} paired bootstrap resamples of the test samples; "
        "p-values are corrected by Holm's method in two families for each setting, all teachers by three detectors, "
        "and all pairs of teachers.",
        "With one seed the chance of training is left out, and another seed could differ by more; with several, the "
        f"mean over at most {_MOST_SEEDS} seeds is compared, and the variance from seed to seed counts too, but two or "
        "three seeds tell little about it, so only large differences stand out.",
        plots,
        SectionTable(titles, rows) if rows else None,
        "" if rows else f"There are no scores of test samples: {ANY_ROW}.",
        tuple(notes),
    )


def _title(row: str) -> str:
    return teacher_of(row).title


def _detector(name: str) -> str:
    return QUANTITIES[name].title


def _bar(found: Difference) -> Bar:
    return Bar(100 * found.value, *(100 * end for end in found.interval))


def _difference_rows(
    label: str, found: Mapping[str, Difference], titles: Callable[[str, str], tuple[str, str]]
) -> list[list[str]]:
    corrected = holm({name: each.p_value for name, each in found.items()})
    return [
        [
            label,
            *titles(*name.split(" ")),
            str(each.num_seeds),
            f"{100 * each.value:+.2f}",
            "{:+.2f} to {:+.2f}".format(*(100 * end for end in each.interval)),
            _p_text(each.p_value),
            _p_text(corrected[name]),
        ]
        for name, each in found.items()
    ]


def _p_text(p_value: float) -> str:
    return "<1e-6" if p_value < 1e-6 else f"{p_value:.2g}"


Seeds = tuple[tuple[str, int], ...]
Resampled = dict[str, np.ndarray]  # AUROC by detector, [1 + B]


def _of_seeds(by_seed: Mapping[Seeds, Resampled], seeds: Sequence[Seeds], detector: str) -> np.ndarray:
    return np.stack([by_seed[seed][detector] for seed in seeds])


def _bootstrap(source: Source, problems: Problems) -> tuple[dict[str, dict[Seeds, Resampled]], dict[str, str]]:
    """Returns AUROC and its resamples by row and seed, means over classes; and why some are left out.

    Seeds that most rows have come first, and at most so many of them are read that it takes minutes.
    """
    lines = source.cohort.lines_in(source.setting)
    counts = collections.Counter(seed for line in lines for seed in line.by_seed)
    chosen = sorted(counts, key=lambda seed: (-counts[seed], seed))[:_MOST_SEEDS]
    aurocs: dict[str, dict[Seeds, Resampled]] = {line.row: {} for line in lines}
    left_out: dict[str, str] = {}
    for seed in chosen:
        of_seed = {line.row: line for line in lines if seed in line.by_seed}
        found, reasons = _bootstrap_of_seed(source, of_seed, seed, problems)
        for row, resampled in found.items():
            aurocs[row][seed] = resampled
        number = f", seed {dict(seed).get('splits', 0)}" if len(counts) > 1 else ""
        left_out |= {f"{_title(row)}{number}": reason for row, reason in reasons.items()}
    return {row: seeds for row, seeds in aurocs.items() if seeds}, left_out


def _bootstrap_of_seed(
    source: Source, lines: Mapping[str, Line], seed: Seeds, problems: Problems
) -> tuple[dict[str, Resampled], dict[str, str]]:
    """Returns AUROC and its resamples by row, means over classes; and why rows are left out."""
    names = source.cohort.configurations(source.setting)
    totals: dict[str, Resampled] = {}
    left_out: dict[str, str] = {}
    for name in names:
        samples = {}
        for row, line in lines.items():
            ((folder, _, entry),) = entries_of(line, [name], seed)
            if (found := _samples(folder, name, problems)) is None:
                left_out[row] = f"the scores of {name} cannot be read"
            elif found.labels.all() or not found.labels.any() or np.isnan(numbers_of(entry)["kd"]):
                left_out[row] = f"{name} has no anomalies, or nothing else"
            else:
                samples[row] = found
        tests = {row: (tuple(found.ids), found.labels.tobytes()) for row, found in samples.items()}
        most = collections.Counter(tests.values()).most_common(1)
        for row, test in tests.items():
            if test != most[0][0]:
                left_out[row] = f"its test samples of {name} differ from those of most rows"
        kept = {row: found for row, found in samples.items() if row not in left_out}
        scores = {f"{row} {each}": found.scores[each] for row, found in kept.items() for each in DETECTORS}
        if scores:
            labels = next(iter(kept.values())).labels
            aurocs = bootstrap_aurocs(labels, scores, num_samples=_NUM_RESAMPLES, seed=0)
            for key, values in aurocs.items():
                row, detector = key.split(" ")
                by_detector = totals.setdefault(row, {})
                by_detector[detector] = by_detector.get(detector, 0) + values / len(names)
    return {row: by for row, by in totals.items() if row not in left_out}, left_out


def _samples(folder: pathlib.Path, name: str, problems: Problems) -> results.SampleScores | None:
    path = folder / "scores" / f"{name}.csv"
    try:
        found = results.read_scores(path)
    except DamagedError as error:
        problems[str(path)] = error.reason
        return None
    if set(found.scores) != set(DETECTORS):
        problems[str(path)] = "a detector is missing"
        return None
    order = np.argsort(found.ids)  # the same for every seed, so that equal test samples have equal resamples
    scores = {detector: values[order] for detector, values in found.scores.items()}
    return results.SampleScores([found.ids[place] for place in order], found.labels[order], scores)
