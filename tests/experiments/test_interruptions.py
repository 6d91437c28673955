import gc
import os
import signal
import threading
import weakref

import pytest

from defectops.experiments.interruptions import Interruptions


class Thing:
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_is_lost_in_a_callback_is_raised_at_the_next_check():
    thing = Thing()
    kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), Interruptions() as interruptions:  # noqa: PT012
        del thing
        gc.collect()
        assert kept() is None
        interruptions.check()
    with Interruptions() as interruptions:
        interruptions.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_end_of_the_block_raises_what_was_lost():
    thing = Thing()
    kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    passed = []
    with pytest.raises(KeyboardInterrupt), Interruptions():  # noqa: PT012
        del thing
        gc.collect()
        passed.append(kept())
    assert passed == [None]


def test_a_signal_that_is_raised_at_once_passes_through_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interruptions():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_python_does_not_handle_is_left_alone():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Interruptions():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_may_use_it():
    raised = []

    def act():
        try:
            with Interruptions() as interruptions:
                interruptions.check()
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert raised == []
