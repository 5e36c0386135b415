"""The linear probe: how well a linear layer on a frozen teacher tells classes apart (Sec. 3.4)."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from brittle_jax import console
from brittle_jax.data.splits import Lesson
from brittle_jax.inference import outputs
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network

MAX_ITERATIONS = 2000  # of the fit


class Answers(NamedTuple):
    """What a classifier says of N images, or of N samples."""

    labels: np.ndarray  # [N] int, the class that it names
    scores: np.ndarray  # of two classes: [N], the log-odds of the second; of K > 2: [N, K], the probability of each
    classes: np.ndarray  # [K] int, the labels that it has learned, in ascending order


def probe(network: Network, lesson: Lesson, loop: Loop, *, inverse_penalty: float) -> dict[str, Any] | None:
    """Fits a linear classifier to a network's outputs for training images, and tests it on held-out ones.

    The classifier is logistic regression on standardised features, fitted by L-BFGS to convergence.

    Args:
        network: whose outputs are probed: a teacher's pooled features, or an autoencoder's code.
        lesson: which samples to learn from and to test on, with the labels that are learned.
        inverse_penalty: C of the logistic regression.

    Returns:
        `accuracy`, `balanced_accuracy`, `auroc` and `majority_accuracy` over test images, as in `figures`. If samples
        have several images, the same for samples, such as `accuracy_by_sample`: a sample is of the last class that any
        of its images is given, and its scores are the largest of its images'. `num_train_images`, `num_test_images`,
        `num_classes`. None if there are no two classes to tell apart, or nothing to test on.
    """
    dataset = lesson.dataset
    train, test = dataset.images_of(lesson.train), dataset.images_of(lesson.held_out)
    labels = dataset.labels_of(np.arange(len(dataset.images)))
    if len(np.unique(labels[train])) < 2 or not len(test):
        return None
    train_features, test_features = (
        outputs(network, dataset.images, indices, loop, "features to probe") for indices in (train, test)
    )
    answers = loop.call("probe", lambda: fit_and_predict(train_features, labels[train], test_features, inverse_penalty))
    if answers is None:  # an estimate fits nothing
        return None
    by_image, by_sample = figures(labels[test], answers), {}
    _say(f"linear probe, a classifier of {len(answers.classes)} classes on the teacher's features", by_image)
    if len(test) > len(lesson.held_out):
        of_samples = _of_samples(answers, dataset.sample_of_image[test], lesson.held_out)
        by_sample = figures(dataset.samples.labels[lesson.held_out], of_samples)
        _say("the same by sample", by_sample)
    return {
        **by_image,
        **{f"{name}_by_sample": value for name, value in by_sample.items()},
        "num_train_images": len(train),
        "num_test_images": len(test),
        "num_classes": len(answers.classes),
    }


def fit_and_predict(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    inverse_penalty: float,
    max_iterations: int = MAX_ITERATIONS,
) -> Answers:
    """Returns what logistic regression says of features [M, F], fitted to others [N, F].

    It warns if the fit has not converged after `max_iterations`.
    """
    # Imported here: where PyTorch is installed, scikit-learn imports it, which takes seconds.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=inverse_penalty, solver="lbfgs", max_iter=max_iterations)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(train_features, train_labels)
    if any(issubclass(each.category, ConvergenceWarning) for each in caught):
        console.warn(f"the linear probe did not converge in {max_iterations} iterations: its accuracy may be too low")
    classes = classifier.classes_
    # A probability close to 1 is rounded to 1; log-odds keep the order.
    score = classifier.decision_function if len(classes) == 2 else classifier.predict_proba
    return Answers(classifier.predict(test_features), score(test_features), classes)


def figures(labels: np.ndarray, answers: Answers) -> dict[str, float | None]:
    """Returns how well answers fit the labels [N], as fractions.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean of the accuracies on each class that occurs; `auroc`, with more than
        two classes the mean over classes, each against the rest, and None unless exactly the learned classes occur;
        `majority_accuracy`, that of always naming the class that occurs most often.
    """
    from sklearn.metrics import recall_score, roc_auc_score

    occurring, counts = np.unique(labels, return_counts=True)
    auroc = None
    if np.array_equal(occurring, answers.classes):
        truth = labels == occurring[1] if answers.scores.ndim == 1 else labels[:, None] == occurring
        auroc = float(roc_auc_score(truth, answers.scores))
    return {
        "accuracy": float((answers.labels == labels).mean()),
        "balanced_accuracy": float(recall_score(labels, answers.labels, labels=occurring, average="macro")),
        "auroc": auroc,
        "majority_accuracy": float(counts.max() / len(labels)),
    }


def _of_samples(answers: Answers, sample_of_image: np.ndarray, samples: np.ndarray) -> Answers:
    """Returns the answers for samples [S] from those for images [M], whose samples are given too."""

    def largest(values: np.ndarray) -> np.ndarray:
        of_sample = np.full((samples.max() + 1, *values.shape[1:]), values.min(), values.dtype)
        np.maximum.at(of_sample, sample_of_image, values)
        return of_sample[samples]

    return Answers(largest(answers.labels), largest(answers.scores), answers.classes)


def _say(what: str, measured: dict[str, float | None]) -> None:
    percent = {name: "-" if value is None else f"{100 * value:.2f}" for name, value in measured.items()}
    console.say(
        f"  {what}: accuracy {percent['accuracy']}% (always the most frequent class: {percent['majority_accuracy']}%), "
        f"balanced accuracy {percent['balanced_accuracy']}%, AUROC {percent['auroc']}"
    )
