import pytest

from brittle_jax.run.recommendation import recommend


@pytest.mark.parametrize(
    ("teacher", "error_ratio", "detector", "why"),
    [
        ("rotnet", 0.62, "kd", "its error is 0.62 of that of always predicting the teacher's mean."),
        ("rotnet", 1.0, "mahalanobis_full", "The student has not learned its teacher, so KD is not used."),
        ("rotnet", 3.3, "mahalanobis_full", "The student has not learned its teacher, so KD is not used."),
        ("random", None, "mahalanobis_full", "The student has not learned its teacher, so KD is not used."),
        (
            "imagenet_lite",
            0.62,
            "mahalanobis_full",
            "it found anomalies best in a study on other images.",
        ),
        (
            "imagenet_lite",
            3.3,
            "mahalanobis_full",
            "it found anomalies best in a study on other images.",
        ),
    ],
)
def test_kd_is_recommended_only_if_the_student_has_learned(teacher, error_ratio, detector, why):
    recommended = recommend(teacher, error_ratio)
    assert recommended["detector"] == detector and recommended["why"].endswith(why)
