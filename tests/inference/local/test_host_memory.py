import os
from pathlib import Path

import pytest

from inference.local import host_memory


def test_something_is_free_on_this_machine():
    assert host_memory.available_bytes() > 0


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max", None), ("1000", 450), ("500", 0)],
    ids=["no limit", "some left", "over the limit"],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, limit, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 50\n")
    assert host_memory.cgroup_available(tmp_path) == free


def test_without_a_container_there_is_no_limit(tmp_path):
    assert host_memory.cgroup_available(tmp_path) is None


def test_a_process_holds_memory_of_its_own():
    assert (host_memory.anonymous_bytes(os.getpid()) or 2**21) > 2**20


def test_a_process_that_is_gone_tells_nothing():
    assert host_memory.anonymous_bytes(2**22 + 1) is None
