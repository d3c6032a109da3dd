from __future__ import annotations

import os
import signal
import threading

import pytest

from pipelines.interrupts import termination_as_interrupt


def test_a_request_to_stop_interrupts_as_ctrl_c_does_and_only_meanwhile():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_training_may_run_in_a_thread_of_another_program():
    done = []

    def run():
        with termination_as_interrupt():
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]
