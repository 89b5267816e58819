"""Prompts of a known length: words that are one token each."""

from inference.local.loaded_model import LoadedModel


def words_of(loaded: LoadedModel, most: int = 4000) -> list[str]:
    """Special tokens, which come first in a vocabulary, are left out."""
    found = (loaded.prompts.decode([token]).strip() for token in range(most))
    return [word for word in found if word.isalnum()]
