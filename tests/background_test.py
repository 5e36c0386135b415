import threading

import pytest

from brittle_jax.background import Background


def failing():
    raise OSError("the disk is full")


def test_jobs_are_done_one_after_the_other_beside_the_caller():
    events, may_end = [], threading.Event()

    def job(number):
        if number == 0:
            assert may_end.wait(10)
        assert threading.current_thread() is not threading.main_thread()
        events.append(number)

    with Background() as background:
        background.start(lambda: job(0))
        events.append("meanwhile")
        may_end.set()
        for number in (1, 2):
            background.start(lambda number=number: job(number))
            assert number - 1 in events  # the one before has ended
        background.wait()
        assert events == ["meanwhile", 0, 1, 2]
        background.wait()  # for nothing


@pytest.mark.parametrize("meet", [lambda background: background.wait(), lambda background: background.start(print)])
def test_what_a_job_raises_is_raised_once_by_the_next_call(meet, capsys):
    with Background() as background:
        background.start(failing)
        with pytest.raises(OSError, match="the disk is full"):
            meet(background)
        assert capsys.readouterr().out == ""  # the next job was not started
        background.start(lambda: None)


def test_the_context_ends_with_the_last_job_and_raises_what_it_raised():
    done, may_end = [], threading.Event()

    def job():
        may_end.wait(0.05)
        done.append(True)

    with Background() as background:
        background.start(job)
    assert done == [True]
    with pytest.raises(OSError, match="the disk is full"), Background() as background:
        background.start(failing)


def test_an_error_of_the_caller_is_raised_after_the_last_job_and_not_replaced_by_the_jobs():
    done = []

    def job():
        threading.Event().wait(0.05)
        done.append(True)
        failing()

    with pytest.raises(ZeroDivisionError), Background() as background:
        background.start(job)
        1 / 0  # noqa: B018
    assert done == [True]
