from django.apps import AppConfig


class LLMServerConfig(AppConfig):
    name = "llmserver"
    verbose_name = "LLM Server"
