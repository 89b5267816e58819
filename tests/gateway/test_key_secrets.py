import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import key_secrets
from gateway.errors import InvalidKey, MissingKey

PUBLIC_IDS = st.text(string.ascii_lowercase + string.digits, min_size=12, max_size=32)
SECRETS = st.text(string.ascii_letters + string.digits + "_-", min_size=20, max_size=128)


@given(PUBLIC_IDS, SECRETS)
def test_it_finds_the_public_id_in_every_key_of_the_form(public_id: str, secret: str) -> None:
    assert key_secrets.parse(f"sk-llms-{public_id}-{secret}") == public_id


@given(st.text() | st.text(string.printable).map(lambda text: f"sk-llms-{text}"))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        public_id = key_secrets.parse(text)
    except (InvalidKey, MissingKey):
        return
    assert text.startswith(f"sk-llms-{public_id}-")
    assert text.isascii()


@given(PUBLIC_IDS, SECRETS, st.sampled_from(["\n", " ", "\0", "é", "\u0661"]), st.integers(0, 200))
def test_a_foreign_character_anywhere_spoils_a_key(
    public_id: str, secret: str, foreign: str, at: int
) -> None:
    key = f"sk-llms-{public_id}-{secret}"
    with pytest.raises(InvalidKey):
        key_secrets.parse(key[:at] + foreign + key[at:])


@given(PUBLIC_IDS)
def test_a_new_key_reads_as_its_public_id(public_id: str) -> None:
    assert key_secrets.parse(key_secrets.new_key(public_id)) == public_id


@given(st.text())
def test_naming_a_key_never_fails(text: str) -> None:
    found = key_secrets.public_id_of(text)
    assert found is None or found in text


def test_a_digest_proves_its_key_and_no_other() -> None:
    one, other = (key_secrets.new_key("abcdefghij12") for _ in range(2))
    digest = key_secrets.digest_of(one, 1)
    assert key_secrets.is_proved_by(one, 1, digest)
    assert not key_secrets.is_proved_by(other, 1, digest)


def test_an_empty_digest_proves_nothing() -> None:
    assert not key_secrets.is_proved_by(key_secrets.new_key("abcdefghij12"), 1, "")


def test_a_digest_under_a_pepper_that_is_gone_proves_nothing() -> None:
    key = key_secrets.new_key("abcdefghij12")
    assert not key_secrets.is_proved_by(key, 99, key_secrets.digest_of(key, 1))
