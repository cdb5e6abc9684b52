from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from autoprune.working.interruption import MESSAGE, interruption, shielded


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_signal_asks_and_the_second_raises() -> None:
    said = threading.Event()
    texts: list[str] = []

    def say(text: str) -> None:
        texts.append(text)
        said.set()

    with pytest.raises(KeyboardInterrupt), interruption(say) as found:
        assert not found.asked()
        interrupt()
        assert found.asked() and said.wait(10)
        interrupt()
    assert texts == [MESSAGE]


def test_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruption(print):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_outside_the_main_thread_nothing_changes() -> None:
    asked: list[bool] = []

    def enter() -> None:
        with interruption(print) as found:
            asked.append(found.asked())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert asked == [False] and signal.getsignal(signal.SIGINT) is before


def test_a_process_that_starts_shielded_does_not_see_the_signal() -> None:
    code = "import time; print('ready', flush=True); time.sleep(0.5); print('done')"
    with shielded():
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out == "done\n" and process.returncode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_a_request_to_terminate_is_one_to_finish() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruption(lambda text: None) as found:
        os.kill(os.getpid(), signal.SIGTERM)
        assert found.asked()
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
