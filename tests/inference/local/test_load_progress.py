from typing import Any

import pytest

from inference.local import load_progress
from inference.local.load_progress import on_download, progress_bar, watching_memory


class Told(list[tuple[float, str]]):
    def __call__(self, progress: float, detail: str) -> None:
        self.append((round(progress, 3), detail))


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_download_tells_its_bytes_between_its_two_steps(told: Told) -> None:
    tell = on_download(told, "some/model")
    tell(0, 2_000_000_000)
    tell(1_000_000_000, 2_000_000_000)
    assert told == [
        (0.2, "fetching some/model from the Hub, 0.0 of 2.0 GB"),
        (0.35, "fetching some/model from the Hub, 1.0 of 2.0 GB"),
    ]


def test_a_download_that_turns_out_larger_does_not_go_back(told: Told) -> None:
    tell = on_download(told, "some/model")
    tell(500, 1000)
    tell(600, 10_000)
    assert [progress for progress, _ in told] == [0.35, 0.35]


def test_the_bar_passes_bytes_on_and_draws_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    bar_class = progress_bar(lambda done, total: seen.append((done, total)))
    # As snapshot_download uses it: the total is known bit by bit, files are counted beside it.
    with bar_class(desc="Downloading", total=0, unit="B", unit_scale=True) as bar:
        bar.update(10)
        bar.total += 100
        bar.update(40)
    with bar_class(desc="Fetching 3 files", total=3) as files:
        files.update()
    assert seen == [(50, 100)]
    assert capfd.readouterr() == ("", "")


def in_memory(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    rest = list(sizes)
    monkeypatch.setattr(load_progress, "resident_bytes", lambda: rest.pop(0))


def test_weights_count_as_they_come_into_memory(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory(monkeypatch, 1000, 51_001_000, 26_001_000, 901_001_000)
    watch = load_progress._MemoryWatch(told, 100_000_000)
    watch.step(0.6, "loading weights")
    for _ in range(3):
        watch.tell()
    assert told == [
        (0.6, "loading weights"),
        (0.753, "loading weights, 51 of 100 MB"),
        (0.9, "loading weights, 100 of 100 MB"),
    ]


def test_other_steps_are_told_as_they_are(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory(monkeypatch, 0, 50)
    watch = load_progress._MemoryWatch(told, 100)
    watch.step(0.5, "reading the tokenizer")
    watch.tell()
    assert told == [(0.5, "reading the tokenizer")]


def test_the_watch_ends_with_the_load(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_progress, "INTERVAL_S", 0.001)
    with watching_memory(told, 100) as step:
        step(0.9, "checking the model")
    count = len(told)
    assert told[-1] == (0.9, "checking the model")
    assert len(told) == count


def test_nothing_is_told_where_the_platform_does_not_say(tmp_path: Any) -> None:
    assert load_progress.resident_bytes(tmp_path / "statm") == 0
