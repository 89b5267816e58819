from models_registry.admin import catalog, observed

__all__ = ["catalog", "observed"]
