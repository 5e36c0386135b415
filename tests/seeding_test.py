from brittle_jax.seeding import derive_seed


def test_seeds_depend_on_the_run_and_on_the_purpose():
    seeds = {derive_seed(seed, *purpose) for seed in (0, 1) for purpose in (("teacher",), ("student",), ("a", "b"))}
    assert len(seeds) == 6
    assert derive_seed(0, "teacher") == derive_seed(0, "teacher")
    assert all(0 <= seed < 2**32 for seed in seeds)
