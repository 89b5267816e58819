from pathlib import Path

import pytest

from inference.local import memory


def test_a_quarter_of_what_is_free_is_for_the_cache(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert memory.kv_budget_bytes("cpu") == 250


def test_something_is_free_on_this_machine():
    assert memory.available_bytes() > 0


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max", None), ("1000", 450), ("500", 0)],
    ids=["no limit", "some left", "over the limit"],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, limit, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 50\n")
    assert memory.cgroup_available(tmp_path) == free


def test_without_a_container_there_is_no_limit(tmp_path):
    assert memory.cgroup_available(tmp_path) is None
