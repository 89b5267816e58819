from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from inference.local.prefix_tree import PrefixTree

BYTES = 10
"""Per token."""


@dataclass(frozen=True)
class Text:
    """Stands for what was computed: itself the tokens, so that mixing them up shows."""

    tokens: tuple[int, ...]

    @property
    def nbytes(self):
        return BYTES * len(self.tokens)

    def split(self, at):
        return Text(self.tokens[:at]), Text(self.tokens[at:])


def add(tree, tokens, salt=""):
    made = []

    def make(first, end):
        made.append((first, end))
        return Text(tuple(tokens[first:end]))

    tree.add(salt, tuple(tokens), BYTES, make)
    return made


def found(tree, tokens, salt=""):
    match = tree.match(salt, tuple(tokens))
    read = [token for piece in match.pieces for token in piece.tokens]
    assert read[: match.tokens] == list(tokens[: match.tokens])
    return match.tokens


def tree(tokens=100):
    return PrefixTree(tokens * BYTES)


def test_it_finds_the_longest_common_beginning():
    made = tree()
    add(made, [1, 2, 3, 4])
    assert found(made, [1, 2, 3, 4, 5]) == 4
    assert found(made, [1, 2, 9]) == 2
    assert found(made, [2, 1]) == 0


def test_a_longer_one_adds_only_what_is_new():
    made = tree()
    add(made, [1, 2, 3])
    assert add(made, [1, 2, 3, 4, 5]) == [(3, 5)]
    assert found(made, [1, 2, 3, 4, 5]) == 5


def test_what_is_there_is_not_made_again():
    made = tree()
    add(made, [1, 2, 3])
    assert add(made, [1, 2]) == []


def test_two_that_part_share_their_beginning():
    made = tree()
    add(made, [1, 2, 3, 4])
    add(made, [1, 2, 8, 9])
    assert found(made, [1, 2, 3, 4]) == 4
    assert found(made, [1, 2, 8, 9]) == 4
    assert made.nbytes == 6 * BYTES


def test_salts_do_not_see_each_other():
    made = tree()
    add(made, [1, 2, 3], salt="one")
    assert found(made, [1, 2, 3], salt="two") == 0
    assert found(made, [1, 2, 3], salt="one") == 3


def test_the_least_recently_used_goes_first():
    made = tree(6)
    add(made, [1, 2, 3])
    add(made, [4, 5, 6])
    found(made, [1, 2, 3])
    add(made, [7])
    assert [found(made, [n]) for n in (1, 4, 7)] == [1, 0, 1]


def test_a_branch_goes_before_its_trunk():
    made = tree(6)
    add(made, [1, 2, 3])
    add(made, [1, 2, 4, 5])
    add(made, [6, 7])
    assert found(made, [1, 2, 3]) == 2
    assert found(made, [1, 2, 4, 5]) == 4


def test_of_what_is_larger_than_the_bound_it_keeps_the_beginning():
    made = tree(3)
    assert add(made, [1, 2, 3, 4, 5]) == [(0, 3)]
    assert found(made, [1, 2, 3, 4, 5]) == 3


def test_it_makes_room_before_it_makes_more():
    made = tree(4)
    add(made, [1, 2, 3])
    seen = []

    def make(first, end):
        seen.append(made.nbytes)
        return Text((4, 5))

    made.add("", (4, 5), BYTES, make)
    assert seen == [0]


def test_a_smaller_bound_takes_effect_at_once():
    made = tree()
    add(made, [1, 2, 3])
    add(made, [4, 5])
    made.resize(2 * BYTES)
    assert (found(made, [1]), found(made, [4, 5])) == (0, 2)


def test_nothing_is_left_when_it_is_cleared():
    made = tree()
    add(made, [1, 2, 3], salt="one")
    add(made, [1, 2, 4], salt="two")
    made.clear()
    assert (made.nbytes, len(made), made._first) == (0, 0, {})


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=8)
actions = st.lists(
    st.tuples(st.sampled_from(["add", "add", "match", "resize"]), st.sampled_from("xy"), tokens),
    max_size=40,
)


@given(st.integers(0, 30), actions)
def test_it_finds_only_what_was_added_and_keeps_the_bound(bound, steps):
    made, added = tree(bound), {"x": [], "y": []}
    for action, salt, wanted in steps:
        if action == "add":
            add(made, wanted, salt)
            added[salt].append(wanted)
            assert found(made, wanted, salt) == min(len(wanted), bound)
        elif action == "resize":
            bound = 3 * len(wanted)
            made.resize(bound * BYTES)
        matched = found(made, wanted, salt)
        assert matched <= max((shared(wanted, other) for other in added[salt]), default=0)
        assert made.nbytes <= bound * BYTES
        check(made)


def shared(one, other):
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def check(made):
    """The bytes add up, and nobody is older than what depends on it."""
    order = {node: at for at, node in enumerate(made._by_use)}
    assert sum(node.piece.nbytes for node in order) == made.nbytes
    assert all(len(node.tokens) * BYTES == node.piece.nbytes for node in order)
    assert all(order[n.parent] > order[n] for n in order if n.parent is not None)
    assert all(made._by_use[n] == made._by_use[n.parent] for n in order if n.parent is not None)
