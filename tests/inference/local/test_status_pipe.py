import os
from collections.abc import Iterator

import pytest

from inference.local.runner_spec import EngineInfo, EngineStats, RunnerState, RunnerStatus
from inference.local.status_pipe import StatusReader, StatusWriter

INFO = EngineInfo("source", "llama", "cpu", "no other", "fp32", 512, 1, 4)
READY = RunnerStatus("b1", RunnerState.READY, progress=1.0, pid=7, info=INFO)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    for fd in (read_fd, write_fd):
        try:
            os.close(fd)
        except OSError:
            continue


def test_a_status_arrives_whole(pipe: tuple[int, int]) -> None:
    StatusWriter(pipe[1]).write(READY)
    assert StatusReader(pipe[0]).read() == READY


def test_without_news_there_is_nothing(pipe: tuple[int, int]) -> None:
    assert StatusReader(pipe[0]).read() is None


def test_only_the_newest_counts(pipe: tuple[int, int]) -> None:
    writer = StatusWriter(pipe[1])
    for running in range(5):
        writer.write(RunnerStatus("b1", RunnerState.READY, stats=EngineStats(running)))
    status = StatusReader(pipe[0]).read()
    assert status is not None
    assert status.stats.running == 4


def test_a_reader_that_is_away_stops_nobody_and_gets_the_newest(pipe: tuple[int, int]) -> None:
    writer, reader = StatusWriter(pipe[1]), StatusReader(pipe[0])
    for running in range(2000):
        writer.write(RunnerStatus("b1", RunnerState.READY, stats=EngineStats(running)))
    reader.read()
    assert writer.flush()
    status = reader.read()
    assert status is not None
    assert status.stats.running == 1999


def test_a_line_cut_in_two_is_put_together(pipe: tuple[int, int]) -> None:
    reader = StatusReader(pipe[0])
    os.write(pipe[1], b'{"backend_id": "b1", ')
    assert reader.read() is None
    os.write(pipe[1], b'"state": "loading"}\n')
    assert reader.read() == RunnerStatus("b1", RunnerState.LOADING)


def test_foreign_lines_are_skipped(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b'hello\n{"state": 3}\n\xff\n{"backend_id": "b1", "state": "ready"}\nrest')
    assert StatusReader(pipe[0]).read() == RunnerStatus("b1", RunnerState.READY)


def test_an_endless_line_is_not_kept(pipe: tuple[int, int]) -> None:
    reader = StatusReader(pipe[0])
    for _ in range(50):
        os.write(pipe[1], b"x" * 4000)
        reader.read()
    os.write(pipe[1], b'\n{"backend_id": "b1", "state": "ready"}\n')
    assert reader.read() == RunnerStatus("b1", RunnerState.READY)


def test_the_last_words_are_read_at_the_end_of_the_file(pipe: tuple[int, int]) -> None:
    reader = StatusReader(pipe[0])
    StatusWriter(pipe[1]).write(READY)
    os.close(pipe[1])
    assert reader.read() == READY
    assert reader.fd is None


def test_a_reader_that_is_gone_does_not_break_the_writer(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    StatusWriter(pipe[1]).write(READY)


def test_a_long_detail_is_cut(pipe: tuple[int, int]) -> None:
    StatusWriter(pipe[1]).write(RunnerStatus("b1", RunnerState.FAILED, detail="x" * 100_000))
    status = StatusReader(pipe[0]).read()
    assert status is not None
    assert len(status.detail) == 1000
