"""The linear probe: how well a linear layer on a frozen teacher tells classes apart (Sec. 3.4)."""

import warnings
from typing import Any

import numpy as np

from brittle_jax import console
from brittle_jax.data.splits import Lesson
from brittle_jax.inference import outputs
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network

MAX_ITERATIONS = 2000  # of the fit


def probe(network: Network, lesson: Lesson, loop: Loop, *, inverse_penalty: float) -> dict[str, Any] | None:
    """Fits a linear classifier to a network's outputs for training images; returns its accuracy on held-out ones.

    The classifier is logistic regression on standardised features, fitted by L-BFGS to convergence.

    Args:
        network: whose outputs are probed: a teacher's pooled features, or an autoencoder's code.
        lesson: which samples to learn from and to test on, with the labels that are learned.
        inverse_penalty: C of the logistic regression.

    Returns:
        `accuracy` over test images; if samples have several images, `accuracy_by_sample`, where a sample is of the last
        class that any of its images is given; `num_train_images`, `num_test_images`, `num_classes`. None if there are
        no two classes to tell apart, or nothing to test on.
    """
    dataset = lesson.dataset
    train, test = dataset.images_of(lesson.train), dataset.images_of(lesson.held_out)
    labels = dataset.labels_of(np.arange(len(dataset.images)))
    if len(np.unique(labels[train])) < 2 or not len(test):
        return None
    train_features, test_features = (
        outputs(network, dataset.images, indices, loop, "features to probe") for indices in (train, test)
    )
    predicted = loop.call(
        "probe", lambda: fit_and_predict(train_features, labels[train], test_features, inverse_penalty)
    )
    if predicted is None:  # an estimate fits nothing
        return None
    description = {
        "accuracy": float((predicted == labels[test]).mean()),
        "num_train_images": len(train),
        "num_test_images": len(test),
        "num_classes": len(np.unique(labels[train])),
    }
    if len(test) > len(lesson.held_out):
        description["accuracy_by_sample"] = _accuracy_by_sample(lesson, test, predicted)
    console.say(f"  linear probe: {100 * description['accuracy']:.2f}% of {description['num_classes']} classes")
    return description


def fit_and_predict(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    inverse_penalty: float,
    max_iterations: int = MAX_ITERATIONS,
) -> np.ndarray:
    """Returns the labels [M] that logistic regression predicts for features [M, F], fitted to others [N, F].

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
    return classifier.predict(test_features)


def _accuracy_by_sample(lesson: Lesson, test: np.ndarray, predicted: np.ndarray) -> float:
    samples = lesson.dataset.samples
    last = np.full(len(samples), -1)
    np.maximum.at(last, lesson.dataset.sample_of_image[test], predicted)
    return float((last == samples.labels)[lesson.held_out].mean())
