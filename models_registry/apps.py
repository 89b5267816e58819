from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    name = "models_registry"
    verbose_name = "Models"

    def ready(self) -> None:
        # Registers the system check; the registry itself may only be used once apps are loaded.
        from models_registry import checks  # noqa: F401
