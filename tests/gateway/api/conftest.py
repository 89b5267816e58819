from tests.gateway.api.serving import backend, client, key, process, tokens

__all__ = ["backend", "client", "key", "process", "tokens"]
