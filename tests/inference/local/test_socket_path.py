import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InferenceError
from inference.local.socket_path import MAX_PATH_BYTES, prepare_folder, socket_path

DEEP = Path("/srv") / ("deep" * 30)


def test_a_plain_name_keeps_its_name() -> None:
    assert socket_path(Path("/srv/run"), "qwen3-0.6b") == Path("/srv/run/qwen3-0.6b.sock")


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a/b", "", ".hidden", "Grüße", "a b", "x" * 300, "\ud800"],
    ids=ascii,
)
def test_a_name_that_is_no_safe_file_name_is_hashed(name: str) -> None:
    path = socket_path(Path("/srv/run"), name)
    assert path.parent == Path("/srv/run")
    assert path.stem.isalnum()


def test_names_that_differ_in_case_only_stay_apart() -> None:
    assert socket_path(Path("/srv"), "Demo") != socket_path(Path("/srv"), "demo")


def test_a_deep_folder_gives_way_to_the_temporary_one() -> None:
    path = socket_path(DEEP, "demo")
    assert path.is_relative_to(tempfile.gettempdir())
    assert path == socket_path(DEEP, "demo")


def test_two_deep_folders_do_not_share_their_sockets() -> None:
    assert socket_path(DEEP, "demo") != socket_path(DEEP / "other", "demo")


@given(st.text(max_size=300), st.integers(0, 40))
def test_every_path_fits_a_socket(name: str, depth: int) -> None:
    path = socket_path(Path("/srv").joinpath(*["folder"] * depth), name)
    assert len(os.fsencode(path)) <= MAX_PATH_BYTES


def test_the_folder_is_made_private(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "run" / "demo.sock")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(InferenceError, match="mode 700"):
        prepare_folder(tmp_path / "demo.sock")
