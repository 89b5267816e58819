"""Architectures that our own decoder computes; known without torch."""

OWN = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
EMBEDDINGS = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
