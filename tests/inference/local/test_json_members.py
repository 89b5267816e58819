import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.local.json_members import JsonMembers

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\{}[],: é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=2), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text("kmn", min_size=1, max_size=2), values, max_size=4)


def read(text: str) -> tuple[dict[str, str], JsonMembers]:
    members, found = JsonMembers(), dict[str, str]()
    for character in text:
        members.push(character)
        if members.is_value:
            found[members.key] = found.get(members.key, "") + character
    return found, members


@given(objects, st.sampled_from([None, 1]))
def test_it_finds_the_values_of_any_object(content: dict[str, object], indent: int | None):
    found, members = read(json.dumps(content, indent=indent, ensure_ascii=False))
    assert {key: json.loads(value) for key, value in found.items()} == content
    assert members.is_whole


@pytest.mark.parametrize("text", ["[1]", "a", "{a: 1}", '{"a" 1}', '"a"'])
def test_what_is_no_object_is_broken(text: str):
    assert read(text)[1].is_broken


def test_an_object_that_is_cut_off_is_neither_whole_nor_broken():
    _, members = read('{"a": {"b": 1}')
    assert not members.is_whole
    assert not members.is_broken
