import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.errors import UserError
from brittle_jax.models.network import Network, init_variables
from brittle_jax.teachers.borrowed import Borrowed
from brittle_jax.teachers.random import Random
from tests.damage import NUM_FLIPS, flipped_bit
from tests.mini_network import MINI
from tests.small_runs import read_row
from tests.small_teachers import assert_equal, finish, obtain_teacher

LENDER = Random(0, "initial", 64)
MODULE = MINI.with_output(8)


@pytest.fixture(scope="module")
def drawn():
    return Network(MODULE, init_variables(MODULE, 0, (16, 16, 3)))


@pytest.fixture
def configuration(config, tmp_path, one_device):
    return read_row(config, tmp_path / "any", one_device)[1][0]


def save(folder, seed=1):
    """Keeps a teacher in a folder, and returns its weights."""
    variables = init_variables(MODULE, seed, (16, 16, 3))
    checkpoint.save(folder, variables, {"held_out_accuracy": 0.5}, made_from={})
    return variables


def test_another_runs_teacher_can_be_taken(config, tmp_path, one_device, trainings):
    row, (configuration, *_) = read_row(config, tmp_path / "lender", one_device)
    lent, _ = row.obtain_teacher(configuration)
    finish(tmp_path / "lender", config, row.dataset)
    config.teacher.from_run = str(tmp_path / "lender")
    config.seed = 5
    taken, description = obtain_teacher(config, tmp_path / "borrower", one_device)
    assert_equal(taken.variables, lent.variables)
    assert description["from_run"] == str(tmp_path / "lender")
    assert "synthetic_data" not in description
    assert len(trainings) == 1


def test_what_was_synthetic_in_another_run_stays_so(config, tmp_path, one_device):
    row, (configuration, *_) = read_row(config, tmp_path / "lender", one_device)
    row.obtain_teacher(configuration)
    finish(tmp_path / "lender", config, row.dataset, synthetic_data=True)
    config.teacher.from_run = str(tmp_path / "lender")
    assert obtain_teacher(config, tmp_path / "borrower", one_device)[1]["synthetic_data"] is True


def test_a_configurations_own_teacher_goes_before_a_shared_one(drawn, configuration, tmp_path):
    shared = save(tmp_path / "checkpoints" / "teacher")
    borrowed = Borrowed(tmp_path, False, LENDER)
    taken, description = borrowed.obtain(drawn, None, None, configuration, None)
    assert_equal(taken, shared)
    assert description == {"held_out_accuracy": 0.5, "from_run": str(tmp_path)}
    own = save(tmp_path / "checkpoints" / configuration.name / "teacher", seed=2)
    assert_equal(borrowed.obtain(drawn, None, None, configuration, None)[0], own)
    assert not np.array_equal(own["params"]["head"]["linear"]["kernel"], shared["params"]["head"]["linear"]["kernel"])


def test_a_damaged_teacher_is_refused_with_what_helps(drawn, configuration, tmp_path):
    folder = tmp_path / "checkpoints" / "teacher"
    save(folder)
    for number in range(NUM_FLIPS):
        with flipped_bit(folder, number) as file:
            message = rf"^teacher.from_run=.*: its teacher {folder} is damaged \({file.relative_to(folder)}.*; restore"
            with pytest.raises(UserError, match=message):
                Borrowed(tmp_path, False, LENDER).obtain(drawn, None, None, configuration, None)


def test_a_run_without_that_teacher_is_refused(drawn, configuration, tmp_path):
    save(tmp_path / "checkpoints" / "teacher")
    (tmp_path / "checkpoints" / "teacher" / "manifest.json").unlink()
    message = "^teacher.from_run=.* has no teacher for unimodal/airplane: .*/unimodal/airplane/teacher is missing$"
    with pytest.raises(UserError, match=message):
        Borrowed(tmp_path, False, LENDER).obtain(drawn, None, None, configuration, None)


@pytest.mark.parametrize("lender", [LENDER, Random(0, "normal_images", 64)])
def test_it_is_what_the_lenders_teacher_is(tmp_path, lender):
    borrowed = Borrowed(tmp_path, False, lender)
    for name in ("is_shared", "keeps_head", "learns_anomalies", "readings"):
        assert getattr(borrowed, name) == getattr(lender, name)
