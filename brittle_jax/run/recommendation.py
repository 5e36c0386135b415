"""Which of the four detectors to use: a rule that needs no anomalies."""

_CHOSEN_BY_A_STUDY = {"imagenet_lite": "mahalanobis_full"}  # by teacher; docs/measurements.md has the study


def recommend(teacher: str, error_ratio: float | None) -> dict[str, str]:
    """Recommends a detector.

    A student that has not learned its teacher is not recommended: its error says more about the student than about the
    image.

    Args:
        teacher: its kind, such as "rotnet".
        error_ratio: the student's error on normal test images over that of always predicting the teacher's mean.

    Returns:
        `detector`, one of `results.DETECTORS`, and `why`, a sentence.
    """
    if teacher in _CHOSEN_BY_A_STUDY:
        why = f"With the teacher {teacher}, it found anomalies best in a study on other images."
        return {"detector": _CHOSEN_BY_A_STUDY[teacher], "why": why}
    if error_ratio is not None and error_ratio < 1:
        why = (
            "The student has learned its teacher: on normal test images its error is "
            f"{error_ratio:.2f} of that of always predicting the teacher's mean."
        )
        return {"detector": "kd", "why": why}
    why = "The student has not learned its teacher, so KD is not used."
    return {"detector": "mahalanobis_full", "why": why}
