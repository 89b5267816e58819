from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llmserver import peppers

SECOND, THIRD = "the second pepper", "the third one, too"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "_FILE", "_1", "_2", "_3", "_CURRENT"):
        monkeypatch.delenv(f"LLMSERVER_KEY_PEPPER{name}", raising=False)


def test_it_makes_the_first_and_keeps_it(tmp_path: Path) -> None:
    assert peppers.read(tmp_path) == peppers.read(tmp_path)
    assert list(peppers.read(tmp_path)) == [1]


def test_the_newest_signs_and_all_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = peppers.read(tmp_path)[1]
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_3", THIRD)
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_2", SECOND)
    found = peppers.read(tmp_path)
    assert found == {1: first, 2: SECOND, 3: THIRD}
    assert peppers.current(found) == 3


def test_another_may_sign_until_all_machines_know_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_2", SECOND)
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_CURRENT", "1")
    assert peppers.current({1: "x", 2: SECOND}) == 1


def test_the_first_can_be_retired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_2", SECOND)
    assert peppers.read(tmp_path) == {2: SECOND}
    assert not list(tmp_path.iterdir())


def test_a_pepper_can_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(SECOND + "\n")
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_2_FILE", str(tmp_path / "secret"))
    assert peppers.read(tmp_path)[2] == SECOND


@pytest.mark.parametrize("name", ["0", "007", "40000"])
def test_a_bad_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"LLMSERVER_KEY_PEPPER_{name}", SECOND)
    with pytest.raises(ImproperlyConfigured, match="number peppers"):
        peppers.read(tmp_path)


def test_a_short_pepper_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_2", "hunter2")
    with pytest.raises(ImproperlyConfigured, match="LLMSERVER_KEY_PEPPER_2") as refusal:
        peppers.read(tmp_path)
    assert "hunter2" not in str(refusal.value)


def test_the_first_pepper_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER", SECOND)
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_1", THIRD)
    with pytest.raises(ImproperlyConfigured, match="give one"):
        peppers.read(tmp_path)


def test_a_current_pepper_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVER_KEY_PEPPER_CURRENT", "5")
    with pytest.raises(ImproperlyConfigured, match="no pepper 5"):
        peppers.current({1: "x"})
