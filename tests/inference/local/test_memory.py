from inference.local import memory


def test_a_quarter_of_what_is_free_is_for_the_cache(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert memory.kv_budget_bytes("cpu") == 250
