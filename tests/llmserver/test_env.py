from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llmserver import env


@pytest.mark.parametrize(
    ("written", "meant"), [("1", True), ("Yes", True), ("off", False), ("", True)]
)
def test_a_flag_reads_yes_and_no(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: bool
) -> None:
    monkeypatch.setenv("SOME_FLAG", written)
    assert env.flag("SOME_FLAG", default=True) is meant


def test_an_unclear_flag_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FLAG", "perhaps")
    with pytest.raises(ImproperlyConfigured, match="SOME_FLAG='perhaps'"):
        env.flag("SOME_FLAG", default=False)


@pytest.mark.parametrize("written", ["many", "1.5", "-1", "nan", "inf"])
def test_a_bad_integer_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("SOME_COUNT", written)
    with pytest.raises(ImproperlyConfigured, match="SOME_COUNT"):
        env.integer("SOME_COUNT", 3)


def test_an_unset_number_is_the_default() -> None:
    assert env.number("UNSET_NUMBER", 2.5) == 2.5


def test_words_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_WORDS", "a, b,,c ")
    assert env.words("SOME_WORDS") == ["a", "b", "c"]


def test_an_unknown_choice_names_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_CHOICE", "xml")
    with pytest.raises(ImproperlyConfigured, match="console, json"):
        env.choice("SOME_CHOICE", ("console", "json"), "console")


def test_a_secret_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    monkeypatch.setenv("SOME_SECRET_FILE", str(tmp_path / "secret"))
    assert env.secret("SOME_SECRET") == "hidden"


def test_a_missing_secret_file_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET_FILE", "/nowhere/secret")
    with pytest.raises(ImproperlyConfigured, match="SOME_SECRET_FILE=/nowhere/secret"):
        env.secret("SOME_SECRET")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1000", 1000), ("1.5GB", 1_500_000_000), ("2 GiB", 2 * 2**30), ("75%", 6000)],
)
def test_memory_is_an_amount_or_a_share(
    monkeypatch: pytest.MonkeyPatch, written: str, meant: int
) -> None:
    monkeypatch.setenv("SOME_MEMORY", written)
    assert env.memory("SOME_MEMORY", "80%").of(8000) == meant


@pytest.mark.parametrize("written", ["much", "0", "-1", "101%", "3 apples", "GB"])
def test_a_bad_amount_of_memory_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("SOME_MEMORY", written)
    with pytest.raises(ImproperlyConfigured, match="SOME_MEMORY"):
        env.memory("SOME_MEMORY", "80%")


def test_networks_are_a_list_of_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "10.0.0.1, 10.1.0.0/16,2001:db8::/32")
    assert env.networks("X") == ["10.0.0.1", "10.1.0.0/16", "2001:db8::/32"]


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "*"])
def test_what_is_no_network_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("X", value)
    with pytest.raises(ImproperlyConfigured, match="X: "):
        env.networks("X")
