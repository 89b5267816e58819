import stat
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llmserver import data_dir


def test_the_directory_is_made_for_this_user_only(tmp_path: Path) -> None:
    made = data_dir.prepare(tmp_path / "var")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_an_unusable_place_says_which_variable_to_set() -> None:
    with pytest.raises(ImproperlyConfigured, match="LLMSERVER_DATA_DIR"):
        data_dir.prepare(Path("/dev/null/var"))


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = data_dir.kept_secret(tmp_path, "secret")
    assert len(first) >= 48
    assert data_dir.kept_secret(tmp_path, "secret") == first


def test_a_secret_is_readable_by_this_user_only(tmp_path: Path) -> None:
    data_dir.kept_secret(tmp_path, "secret")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_an_emptied_folder_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    assert list(data_dir.emptied(tmp_path).iterdir()) == []
