from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from autoprune.errors import StudyError
from autoprune.storing.journal import JournalFile
from autoprune.storing.storages import open_storage

RECORDS = [{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"k": "ü" * n}} for n in range(1, 6)]
HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "study.journal"
    path.touch()
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def read(path: Path) -> list[dict[str, object]]:
    return list(JournalFile(path).read_logs(0))


def test_records_are_those_of_optuna(path: Path) -> None:
    ours, theirs = JournalFile(path), JournalFileBackend(str(path))
    ours.append_logs(RECORDS[:2])
    theirs.append_logs(RECORDS[2:4])
    ours.append_logs(RECORDS[4:])
    assert list(ours.read_logs(0)) == list(theirs.read_logs(0)) == RECORDS
    for number in (5, 4, 0, 2):
        assert list(ours.read_logs(number)) == RECORDS[number:]
    assert {file.name for file in path.parent.iterdir()} == {path.name}, "no lock is left behind"


def test_a_torn_tail_is_ignored_then_cut_off(path: Path) -> None:
    writer = JournalFile(path)
    writer.append_logs(RECORDS[:2])
    kept = path.read_bytes()
    writer.append_logs(RECORDS[2:3])
    whole = path.read_bytes()
    for length in range(len(kept) + 1, len(whole)):
        path.write_bytes(whole[:length])
        early = JournalFile(path)
        assert list(early.read_logs(0)) == RECORDS[:2]
        JournalFile(path).append_logs(RECORDS[3:4])
        assert list(early.read_logs(2)) == RECORDS[3:4], "a reader that saw the torn tail"
        assert read(path) == [*RECORDS[:2], RECORDS[3]]
        early.append_logs(RECORDS[4:])
        assert read(path) == [*RECORDS[:2], *RECORDS[3:]]


def test_the_very_first_record_may_be_torn(path: Path) -> None:
    storage = open_storage(str(path))
    storage.create_new_study([StudyDirection.MINIMIZE], "a")
    line = path.read_bytes()
    for length in (1, 5, 11, 30, len(line) - 1):
        path.write_bytes(line[:length])
        again = open_storage(str(path))
        again.create_new_study([StudyDirection.MINIMIZE], "b")
        assert optuna.get_all_study_names(open_storage(str(path), create=False)) == ["b"]


def test_a_long_torn_tail_is_cut_off_whole(path: Path) -> None:
    JournalFile(path).append_logs(RECORDS[:1])
    with path.open("ab") as file:
        file.write(b"\0" * 200_000)
    JournalFile(path).append_logs(RECORDS[1:])
    assert read(path) == RECORDS


@pytest.mark.parametrize(
    "line", [b"no json\n", b"\n", b"[1]\n", b'{"op_code": "x"}\n', b"[" * 100_000 + b"\n"]
)
def test_a_complete_line_that_is_no_record_is_named(path: Path, line: bytes) -> None:
    JournalFile(path).append_logs(RECORDS[:2])
    with path.open("ab") as file:
        file.write(line)
    JournalFile(path).append_logs(RECORDS[2:])
    with pytest.raises(StudyError, match=r"study\.journal' is damaged: line 3 "):
        read(path)
    # The advice is good.
    path.write_bytes(b"".join(old for old in path.read_bytes().splitlines(True) if old != line))
    assert read(path) == RECORDS


def test_a_killed_holder_of_the_lock_is_not_waited_for(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        done = threading.Event()

        def append() -> None:
            JournalFile(path).append_logs(RECORDS)
            done.set()

        thread = threading.Thread(target=append)
        thread.start()
        assert not done.wait(0.2), "while the holder lives, the lock is respected"
        holder.send_signal(signal.SIGKILL)
        assert done.wait(10)
        thread.join()
    assert read(path) == RECORDS


def test_a_child_that_was_forked_with_the_lock_does_not_keep_it(path: Path) -> None:
    journal = JournalFile(path)
    with journal._opened("r+b") as file:
        with journal._locked(file, exclusive=True):
            child = subprocess.Popen(["sleep", "60"], pass_fds=[file.fileno()])
        try:
            journal.append_logs(RECORDS)
        finally:
            child.kill()
            child.wait()
    assert read(path) == RECORDS


def test_many_writers_and_a_reader_at_the_same_time(path: Path) -> None:
    over, seen = threading.Event(), list[int]()

    def write(number: int) -> None:
        journal = JournalFile(path)
        for count in range(40):
            journal.append_logs(
                [{"op_code": 2, "writer": number, "count": count, "text": "x" * 500 * number}]
            )

    def follow() -> None:
        journal, number = JournalFile(path), 0
        while not over.is_set():
            number += len(list(journal.read_logs(number)))
            seen.append(number)
        seen.append(number + len(list(journal.read_logs(number))))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    reader = threading.Thread(target=follow)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    records = read(path)
    assert seen[-1] == len(records) == 200 and seen == sorted(seen)
    for number in range(5):
        assert [record["count"] for record in records if record["writer"] == number] == list(range(40))


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file may grow beyond this size: what fits is written, then an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_record_for_which_there_is_no_room_leaves_no_trace(path: Path, room: int) -> None:
    journal = JournalFile(path)
    journal.append_logs(RECORDS[:3])
    before = path.read_bytes()
    with full_at(len(before) + room), pytest.raises(StudyError, match=r"study\.journal.*make room"):
        journal.append_logs(RECORDS[3:4])
    assert path.read_bytes() == before
    journal.append_logs(RECORDS[3:])
    assert read(path) == list(journal.read_logs(0)) == RECORDS


def test_a_record_that_does_not_reach_the_disk_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalFile(path)
    journal.append_logs(RECORDS[:3])

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StudyError, match="Input/output error"):
            journal.append_logs(RECORDS[3:])
    assert read(path) == RECORDS[:3]


def test_a_full_disk_loses_no_finished_trial(small_disk: Path) -> None:
    path = small_disk / "study.journal"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="study")
    finished = 0
    with pytest.raises(StudyError, match="No space left on device; make room"):
        for number in range(1000):
            trial = study.ask()
            trial.set_user_attr("much", "x" * 3000)
            study.tell(trial, float(number))
            finished += 1
    again = optuna.load_study(storage=open_storage(str(path), create=False), study_name="study")
    assert finished > 5 and [t.value for t in again.get_trials() if t.state.is_finished()] == list(
        range(finished)
    )
    subprocess.run(["mount", "-o", "remount,size=256k", str(small_disk)], check=True)
    study.tell(study.ask(), -1.0)
    assert again.best_value == -1.0


def test_a_disk_without_permission_to_write_is_read_all_the_same(small_disk: Path) -> None:
    path = small_disk / "study.journal"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="study")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert optuna.get_all_study_names(open_storage(str(path), create=False)) == ["study"]
    with pytest.raises(StudyError, match="Read-only file system"):
        study.ask()
    for place in (path, small_disk / "deep" / "other.journal"):
        with pytest.raises(StudyError, match="cannot be written: Read-only file system; choose another path"):
            open_storage(str(place))


def test_a_journal_that_was_deleted_does_not_come_back_empty(path: Path) -> None:
    storage = open_storage(str(path))
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    path.unlink()
    for use in (lambda: storage.create_new_trial(study), lambda: storage.get_all_trials(study)):
        with pytest.raises(StudyError, match=r"study\.journal' was deleted while"):
            use()
    assert not path.exists()


@pytest.mark.parametrize("how", ["replaced", "shortened"])
def test_a_journal_that_is_another_one_is_an_error(path: Path, how: str) -> None:
    storage = open_storage(str(path))
    study = storage.create_new_study([StudyDirection.MINIMIZE], "study")
    if how == "shortened":
        os.truncate(path, 0)
    else:
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        other.replace(path)
    for use in (lambda: storage.create_new_trial(study), lambda: storage.get_all_trials(study)):
        with pytest.raises(StudyError, match=f"was {how} while"):
            use()


def test_a_copy_in_another_process_reads_from_the_beginning(path: Path) -> None:
    storage = JournalStorage(JournalFile(path))
    study = optuna.create_study(storage=storage, study_name="study")
    study.tell(study.ask(), 1.0)
    copy = pickle.loads(pickle.dumps(storage))
    assert optuna.load_study(storage=copy, study_name="study").best_value == 1.0
