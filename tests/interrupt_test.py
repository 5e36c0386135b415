"""Real signals, sent by the tests to their own process."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from brittle_jax import interrupt
from brittle_jax.errors import Interrupted, UserError

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def send(number):
    os.kill(os.getpid(), number)


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = handlers()
    yield
    assert handlers() == before and not interrupt.is_requested()


@BOTH
def test_a_signal_is_raised_at_once(number):
    reached = []
    with pytest.raises(Interrupted) as raised, interrupt.handled():
        send(number)
        reached.append("the next line")
    assert reached == []
    assert raised.value.signal_name == signal.Signals(number).name and raised.value.where == ""


@BOTH
def test_a_deferred_block_comes_to_its_end_first(number, capfd):
    reached = []
    with pytest.raises(Interrupted, match=f"^{signal.Signals(number).name}$"), interrupt.handled():
        with interrupt.deferred():
            with interrupt.deferred():
                assert not interrupt.is_requested()
                send(number)
                reached.append("inner")
            assert interrupt.is_requested()
            reached.append("outer")
        reached.append("after both")
    assert reached == ["inner", "outer"]
    assert capfd.readouterr().err == (
        f"\n{signal.Signals(number).name}: stopping after the step at hand; Ctrl-C stops at once\n"
    )


def test_an_error_within_a_deferred_block_is_not_replaced_by_the_request():
    with pytest.raises(Interrupted), interrupt.handled():
        with pytest.raises(ZeroDivisionError), interrupt.deferred():
            send(signal.SIGTERM)
            1 / 0  # noqa: B018
        interrupt.raise_if_requested()


def test_a_request_stays_until_it_is_handled():
    with interrupt.handled():
        with contextlib.suppress(Interrupted):
            send(signal.SIGTERM)
        assert interrupt.is_requested()
        with pytest.raises(Interrupted):
            interrupt.raise_if_requested()


def test_an_error_that_a_library_makes_of_the_request_is_one():
    """As code in C does, whose calls back into Python fail."""
    with pytest.raises(Interrupted, match="^SIGTERM$") as raised, interrupt.handled():
        try:
            send(signal.SIGTERM)
        except Interrupted:
            raise ValueError("invalid matrix") from None
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [UserError, ValueError])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(error, match="^a mistake$"), interrupt.handled():
        if error is UserError:  # whose message is worth more than that of the request
            with contextlib.suppress(Interrupted):
                send(signal.SIGTERM)
        raise error("a mistake")


def test_a_request_can_say_what_is_kept():
    with pytest.raises(Interrupted, match="^SIGTERM; all is kept$"), interrupt.handled(), interrupt.deferred():
        interrupt.raise_if_requested("all is kept")  # nothing is requested yet
        send(signal.SIGTERM)
        interrupt.raise_if_requested("all is kept")


def test_nothing_that_handles_errors_swallows_it():
    with pytest.raises(Interrupted), interrupt.handled(), contextlib.suppress(Exception):
        send(signal.SIGTERM)


def test_without_a_signal_nothing_happens():
    with interrupt.handled():
        assert handlers()[0] is handlers()[1]
        with interrupt.deferred():
            assert not interrupt.is_requested()
        interrupt.raise_if_requested()


def test_a_thread_is_left_alone():
    """Handlers can be set in the main thread alone, and a request is raised there."""
    outcomes = []

    def work():
        with interrupt.handled(), interrupt.deferred():
            outcomes.append(handlers())
        outcomes.append("ended")

    with interrupt.handled():
        with contextlib.suppress(Interrupted):
            send(signal.SIGTERM)
        thread, expected = threading.Thread(target=work), handlers()
        thread.start()
        thread.join()
        assert outcomes == [expected, "ended"] and handlers() == expected


def test_a_signal_within_a_print_does_not_disturb_it(capfd):
    class Signalling:
        def __str__(self):
            send(signal.SIGTERM)
            return "text"

    with pytest.raises(Interrupted), interrupt.handled(), interrupt.deferred():
        print(Signalling(), file=sys.stderr, flush=True)
    assert "SIGTERM: stopping" in capfd.readouterr().err


def run_python(code, **options):
    program = "import os, signal, sys\nfrom brittle_jax import interrupt\n" + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, **options)


@BOTH
def test_a_second_ctrl_c_ends_the_process_by_the_systems_own_answer(number):
    finished = run_python(
        "with interrupt.handled(), interrupt.deferred():\n"
        f"    os.kill(os.getpid(), {number:d})\n"
        "    print('deferred', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never', flush=True)\n"
    )
    assert finished.returncode == -signal.SIGINT
    assert finished.stdout == "deferred\n"


def test_a_terminal_that_has_gone_does_not_end_a_deferred_block():
    # As in `... 2>&1 | tee log`, where Ctrl-C ends tee, too.
    finished = run_python(
        "reading, writing = os.pipe()\n"
        "os.close(reading)\n"
        "os.dup2(writing, 2)\n"
        "try:\n"
        "    with interrupt.handled(), interrupt.deferred():\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('saved', flush=True)\n"
        "except interrupt.Interrupted:\n"
        "    print('stopped', flush=True)\n"
    )
    assert finished.stdout == "saved\nstopped\n"


def test_an_interruption_that_python_drops_is_raised_again():
    class Collected:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))  # where the handler runs: an exception in here is dropped

    with pytest.raises(Interrupted), interrupt.handled():
        collected = Collected()
        del collected
        time.sleep(10)


def test_an_error_that_a_library_makes_of_an_interruption_is_one():
    def read():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except Interrupted as error:
            raise UserError("the file is damaged: delete it") from error

    with pytest.raises(Interrupted), interrupt.handled():
        read()


@pytest.mark.parametrize("error", [UserError("no such folder"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_a_mistake_or_a_full_disk_after_a_signal_is_told(error):
    with pytest.raises(type(error)), interrupt.handled():
        with contextlib.suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        raise error
