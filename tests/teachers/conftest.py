import pytest

from brittle_jax.loop import Loop
from tests.small_teachers import learn_fashion


@pytest.fixture
def config(cifar10_config):
    """A classifier of a few pieces of clothing as the teacher of CIFAR-10's unimodal configurations."""
    return learn_fashion(cifar10_config)


@pytest.fixture
def trainings(monkeypatch):
    """Owners of the trainings of teachers that a test runs, in order."""
    owners, run = [], Loop.run

    def recording(loop, work, until=None):
        if work.kind == "pretrain":
            owners.append(work.owner)
        return run(loop, work, until)

    monkeypatch.setattr(Loop, "run", recording)
    return owners
