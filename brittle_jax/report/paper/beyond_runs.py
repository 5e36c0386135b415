"""What follows from students beyond the paper: their courses, their errors, and other readings of brittleness."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from brittle_jax.evaluate.statistics import (
    Directions,
    Estimate,
    correlation,
    effective_dimensions,
    principal_directions,
    tight_share,
    value_at,
)
from brittle_jax.report.paper.beyond import (
    ANY_ROW,
    ESTIMATE_TITLES,
    Cohorts,
    Section,
    SectionTable,
    Source,
    estimate_texts,
    measured_sources,
)
from brittle_jax.report.paper.layout import SINGLE_SETTINGS, Teachers, teacher_of
from brittle_jax.report.paper.measured import Line
from brittle_jax.report.paper.plots import Bar, curves, dots
from brittle_jax.report.paper.scatter import measured

_RATIOS = (2.0, 1.0, 0.8, 0.6, 0.4, 0.2)
_MOST_ERRORS = 5_000  # of a class
_ROUNDING = 1e-9
_COURSE = ("update_steps", "error_ratio", "kd_auroc", "brittleness")
_MEASURE_AT = "--config.distill.measure_at=50,100,200,400,790,1580"
_DIMENSIONS = {
    "gradient_norm": 1,
    "error": 2,
    "error_mean": 1,
    "error_variance": 1,
    "test_error": 2,
    "test_label": 1,
}
_READINGS = {
    "as read: mean norm / trace": lambda terms: terms["mean"] / terms["trace"],
    "median norm / trace": lambda terms: terms["median"] / terms["trace"],
    "root mean square norm / trace": lambda terms: terms["rms"] / terms["trace"],
    "mean norm / mean squared error": lambda terms: terms["mean"] / terms["squared"],
    "mean norm / root of trace": lambda terms: terms["mean"] / np.sqrt(terms["trace"]),
    "mean norm": lambda terms: terms["mean"],
    "1 / trace": lambda terms: 1 / terms["trace"],
}

Problems = dict[str, str]


def sections(cohorts: Cohorts, problems: Problems) -> list[Section]:
    """Returns the sections that read more of the runs than their results.json.

    Args:
        problems: gets the files that cannot be read, each with the reason.
    """
    return [
        along_distillation(cohorts),
        error_directions(cohorts, problems),
        readings(cohorts, problems),
    ]


def entries_of(
    line: Line, names: Sequence[str], seeds: tuple | None = None
) -> Iterator[tuple[pathlib.Path, str, Mapping[str, Any]]]:
    """Yields folder, name and entry of configurations, of one seed of a line: by default of its first."""
    seed = line.first.seeds if seeds is None else seeds
    for name in names:
        run = next(run for run in line.runs if run.seeds == seed and name in run.entries)
        yield run.folder, name, run.entries[name]


# Along distillation.


class Course(NamedTuple):
    """The course of one student: [P] each; KD AUROC in percent."""

    steps: np.ndarray
    error_ratio: np.ndarray
    kd: np.ndarray
    brittleness: np.ndarray


def _course(entry: Mapping[str, Any]) -> Course | None:
    points = (entry.get("distillation") or {}).get("course") or []
    points = [point for point in points if all(point.get(name) is not None for name in _COURSE)]
    if len(points) < 2:
        return None
    steps, ratio, kd, brittleness = (np.array([point[name] for point in points], float) for name in _COURSE)
    return Course(steps, ratio, 100 * kd, brittleness)


def along_distillation(cohorts: Cohorts) -> Section:
    """Follows KD AUROC and brittleness along distillation, and compares teachers at equal error ratio."""
    rows, plots = [], []
    for source in measured_sources(cohorts):
        courses = _courses(source)
        if len(courses) < 2:
            continue
        shared = sorted(set.intersection(*(set(each.steps) for of_row in courses.values() for each in of_row)))
        for step in shared:
            at = {row: [_at_step(each, step) for each in of_row] for row, of_row in courses.items()}
            rows += _agreements(source.label, f"after {step:,.0f} updates", at)
        for ratio in _RATIOS:
            at = {row: [_at_ratio(each, ratio) for each in of_row] for row, of_row in courses.items()}
            rows += _agreements(source.label, f"at error ratio {ratio:g}", at)
        if not plots and shared:
            plots = _course_plots(source.label, courses, shared)
    return Section(
        "along-distillation",
        "What changes along distillation?",
        "KD AUROC and brittleness of the same students on the way, and how the two agree over teachers after equally "
        "many updates and at equal error ratio, where all students have learned the same share of their teachers.",
        "Students that never reach a ratio are left out there, so lines of the table differ in their teachers; the "
        "points on the way are measured on fewer samples than the end.",
        plots,
        SectionTable(["setting", "where", "teachers are", *ESTIMATE_TITLES], rows) if rows else None,
        "" if rows else f"No two rows were measured on the way: run them with {_MEASURE_AT}.",
    )


def _courses(source: Source) -> dict[str, list[Course]]:
    """Returns the courses of a row's students, one for each class; of rows where all classes have one."""
    names = source.cohort.configurations(source.setting)
    found = {}
    for line in source.cohort.lines_in(source.setting):
        courses = [_course(entry) for _, _, entry in entries_of(line, names)]
        if None not in courses:
            found[line.row] = courses
    return found


def _at_step(course: Course, step: float) -> tuple[float, float]:
    place = int(np.flatnonzero(course.steps == step)[0])
    return course.kd[place], course.brittleness[place]


def _at_ratio(course: Course, ratio: float) -> tuple[float, float] | None:
    kd, brittleness = (value_at(course.error_ratio, values, ratio) for values in (course.kd, course.brittleness))
    return None if kd is None else (kd, brittleness)


def _agreements(label: str, where: str, at: Mapping[str, Sequence[tuple | None]]) -> list[list[str]]:
    """Returns the correlations of brittleness and KD over the teachers that are there in all classes."""
    rows = [row for row, values in at.items() if None not in values]
    means = np.array([np.mean(at[row], axis=0) for row in rows]).reshape(-1, 2)
    teachers = Teachers(rows, {"kd": means[:, 0], "brittleness": means[:, 1]})
    return [
        [label, where, which, *estimate_texts(correlation(each.columns, "brittleness", "kd"))]
        for which, each in (("all", teachers), ("without baseline", teachers.without("baseline")))
        if len(each.rows) > 2
    ]


def _course_plots(label: str, courses: Mapping[str, Sequence[Course]], shared: Sequence[float]) -> list:
    steps = np.array(shared)
    plots = []
    for position, title in ((0, "KD AUROC, %"), (1, "brittleness")):
        lines = {
            row: (steps, np.array([np.mean([_at_step(each, step)[position] for each in of_row]) for step in steps]))
            for row, of_row in courses.items()
        }
        plots.append(curves(lines, ("updates", title), f"{title} along distillation, {label}.", log_y=position == 1))
    return plots


# Errors of students.


def _arrays(
    folder: pathlib.Path, name: str, problems: Problems, needed: Sequence[str], more: Sequence[str] = ()
) -> dict[str, np.ndarray] | None:
    """Reads arrays of brittleness/NAME.npz of a run, and more where they are there.

    None where the file is missing, or, with a problem, damaged.
    """
    path = folder / "brittleness" / f"{name}.npz"
    if not path.exists():
        return None  # of a run of an earlier version
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in (*needed, *(key for key in more if key in arrays.files))}
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        problems[str(path)] = f"damaged ({type(error).__name__}: {' '.join(str(error).split())[:80]})"
        return None
    if fault := _fault(found):
        problems[str(path)] = f"damaged ({fault})"
        return None
    return found


def _fault(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Returns what is wrong with arrays of brittleness/CONFIGURATION.npz, by name; None: nothing."""
    for name, values in arrays.items():
        dimensions = _DIMENSIONS[name]
        if values.dtype.kind not in "iuf" or values.ndim != dimensions or not np.isfinite(values).all():
            return f"{name} does not hold finite numbers in {dimensions} dimension{'s' * (dimensions > 1)}"
        if name in ("gradient_norm", "error_variance") and not values.any():
            return f"{name} holds no number but 0"
    if len({values.shape[-1] for name, values in arrays.items() if "error" in name}) > 1:
        return "its arrays differ in the number of features"
    if len({len(values) for name, values in arrays.items() if name.startswith("test_")}) > 1:
        return "its test errors and their labels differ in number"
    return None


def error_directions(cohorts: Cohorts, problems: Problems) -> Section:
    """Shows how students' errors are spread over directions, and whether anomalies show in tight ones."""
    rows, plots, notes, has_test = [], [], [], False
    for source in measured_sources(cohorts):
        names, shares, tight = source.cohort.configurations(source.setting), {}, {}
        without = []
        for line in source.cohort.lines_in(source.setting):
            of_class = [
                _arrays(folder, name, problems, ["error"], ["test_error", "test_label"])
                for folder, name, _ in entries_of(line, names)
            ]
            if not all(each is not None and _vary(each["error"]) for each in of_class):
                without.append(teacher_of(line.row).title)
                continue
            directions = [principal_directions(_some(each["error"])) for each in of_class]
            shares[line.row] = np.mean([each.shares for each in directions], axis=0)
            tight[line.row] = np.mean([_tight_shares(*each) for each in zip(directions, of_class, strict=True)], axis=0)
        kd = dict(zip(source.teachers.rows, source.teachers.columns["kd"], strict=True))
        for row, share in shares.items():
            half = 100 * share[len(share) // 2 :].sum()
            has_test |= bool(np.isfinite(tight[row]).all())
            of_tests = [f"{100 * value:.1f}" if np.isfinite(value) else "-" for value in tight[row]]
            title, effective = teacher_of(row).title, f"{effective_dimensions(share):.1f} of {len(share)}"
            rows.append([source.label, title, f"{kd[row]:.2f}", effective, f"{half:.2f}", *of_tests])
        if shares:
            notes += [f"{source.label}: {title} is left out: it has no errors of some class." for title in without]
        columns = {
            "kd": np.array([kd[row] for row in shares]),
            "effective": np.array([effective_dimensions(share) for share in shares.values()]),
        }
        if len(shares) > 2:
            notes += _agreement(source.label, correlation(columns, "effective", "kd").spearman, len(shares))
        if known := [shares for shares in tight.values() if np.isfinite(shares).all()]:
            num_above = sum(anomalous > normal for normal, anomalous in known)
            notes.append(
                f"{source.label}: anomalies have a larger share of their error in the tighter half than normal test "
                f"images with {num_above} of {len(known)} teachers."
            )
        if not plots and shares:
            lines = {row: (np.arange(1, len(share) + 1), 100 * _drawn(share)) for row, share in shares.items()}
            labels = ("direction, the widest first", "share of the error's variance, %")
            plots = [curves(lines, labels, f"Spectrum of the students' errors, {source.label}.", log_y=True)]
    missing = "" if rows else f"No run here has a folder brittleness/: {ANY_ROW}."
    if rows and not has_test:
        missing = (
            "The share of an anomaly's error along tight directions is not known: these runs are of an earlier "
            "version, which kept no errors on test images, or they have no more training images than features."
        )
    titles = ["setting", "teacher", "KD AUROC, %", "effective directions", "variance in the tighter half, %"]
    titles += ["error of normal test images there, %", "error of anomalies there, %"]
    return Section(
        "error-directions",
        "Are there tight directions, and do anomalies show in them?",
        "The variance of the student's error on normal training images by principal direction, and the share of the "
        "squared error of test images along the tighter half of the directions: if anomalies leave tight directions, "
        "as the paper supposes, their share there is larger than that of normal test images.",
        "A share tells where the error of anomalies lies, not whether KD detects them by it: their error may be larger "
        "along all directions, and KD adds all of them up.",
        plots,
        SectionTable(titles, rows) if rows else None,
        missing,
        tuple(notes),
    )


def _agreement(label: str, found: Estimate, count: int) -> list[str]:
    """Returns how effective directions agree with KD AUROC, as a note; none where a correlation is not defined."""
    if found.value is None:
        return []
    interval = "" if found.interval is None else " (95% {:.2f} to {:.2f})".format(*found.interval)
    return [
        f"{label}, {count} teachers: Spearman of effective directions and KD AUROC {found.value:.3f}{interval}, "
        f"p {found.p_value:.4f}."
    ]


def _drawn(shares: np.ndarray) -> np.ndarray:
    """Returns the shares of a spectrum without those that are rounding: of more directions than images."""
    return np.where(shares > _ROUNDING, shares, np.nan)


def _vary(errors: np.ndarray) -> bool:
    return len(errors) > 1 and bool(np.ptp(errors, axis=0).any())


def _some(errors: np.ndarray) -> np.ndarray:
    """Returns evenly spaced ones of many errors [K, F]: their spectrum hardly depends on how many there are."""
    return errors[:: -(-len(errors) // _MOST_ERRORS)]


def _tight_shares(directions: Directions, arrays: Mapping[str, np.ndarray]) -> list[float]:
    """Returns the shares of the errors of normal and of anomalous test images along the tighter half of directions.

    NaN where they are not known: with no more training images than features, tight directions are only those in which
    these few images do not vary.
    """
    num_images, num_features = arrays["error"].shape
    if not {"test_error", "test_label"} <= arrays.keys() or num_images <= num_features:
        return [np.nan, np.nan]
    errors, labels = arrays["test_error"], arrays["test_label"]
    of_labels = [errors[labels == label] for label in (0, 1)]
    return [tight_share(directions, each) if len(each) else np.nan for each in of_labels]


# Sensitivity of Figure 6.


def readings(cohorts: Cohorts, problems: Problems) -> Section:
    """Shows how the correlation of Figure 6 depends on how Equation 2 is read, and on what runs it is from."""
    rows, drawn = [], {}
    for setting in SINGLE_SETTINGS:
        for number, (cohort, teachers) in enumerate(measured(cohorts, setting)):
            source = Source(setting, f"{_SHORT[setting]}: {cohort.title}", teachers, cohort)
            variants = _variants(source, problems) if number == 0 else {}
            variants = variants or {"as read: mean norm / trace": teachers}
            for reading, each in variants.items():
                found = correlation(each.without("baseline").columns, "brittleness", "kd")
                rows.append([source.label, reading, *estimate_texts(found)])
                if found.spearman.value is not None:
                    interval = found.spearman.interval or (None, None)
                    name = reading if number == 0 else cohort.title
                    drawn.setdefault(name, {})[_SHORT[setting]] = Bar(found.spearman.value, *interval)
    return Section(
        "readings",
        "How much does Figure 6 depend on its readings?",
        "Spearman's correlation of brittleness with KD AUROC, without the baseline, if the norms are averaged "
        "otherwise, the denominator is another, or students are made and measured in another way.",
        "To take the sum instead of the mean over features, or other units of pixels, scales all teachers alike and is "
        "not shown; other gradient paths and movements need runs of their own, which appear here as other versions.",
        [dots(drawn, "Spearman, with 95% interval over teachers", "Correlation of Figure 6 by reading.")]
        if drawn
        else [],
        SectionTable(["runs", "reading", *ESTIMATE_TITLES], rows) if rows else None,
        "" if rows else f"Published numbers have one reading: {ANY_ROW}.",
    )


_SHORT = {
    "cat": "cat",
    "dog": "dog",
    "unimodal": "unimodal",
    "multimodal": "multimodal",
    "plant": "plant",
    "xray": "X-ray",
}


def _variants(source: Source, problems: Problems) -> dict[str, Teachers]:
    """Returns the teachers of a source with brittleness read in other ways; empty where a file is missing."""
    names = source.cohort.configurations(source.setting)
    values: dict[str, list[float]] = {reading: [] for reading in _READINGS}
    for line in source.cohort.lines_in(source.setting):
        terms = [
            _terms(_arrays(folder, name, problems, ["gradient_norm", "error_mean", "error_variance"]))
            for folder, name, _ in entries_of(line, names)
        ]
        if None in terms:
            return {}
        for reading, compute in _READINGS.items():
            values[reading].append(float(np.mean([compute(each) for each in terms])))
    kd = source.teachers.columns["kd"]
    return {
        reading: Teachers(source.teachers.rows, {"kd": kd, "brittleness": np.array(each)})
        for reading, each in values.items()
    }


def _terms(arrays: Mapping[str, np.ndarray] | None) -> dict[str, float] | None:
    if arrays is None:
        return None
    norms, trace = np.asarray(arrays["gradient_norm"], float), float(arrays["error_variance"].sum())
    return {
        "mean": norms.mean(),
        "median": np.median(norms),
        "rms": np.sqrt((norms**2).mean()),
        "trace": trace,
        "squared": trace + float((np.asarray(arrays["error_mean"], float) ** 2).sum()),
    }
