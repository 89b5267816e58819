from django.db import models


class RegistryRevision(models.Model):
    """One applied change of the registry; `diff` is complete enough to be turned round."""

    number = models.PositiveIntegerField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    applied_by = models.CharField(max_length=150)
    source = models.CharField(max_length=500)
    diff = models.JSONField()

    class Meta:
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"revision {self.number}"


class ChangeCounter(models.Model):
    """Moves with every change of its topic; processes poll it, see `models_registry.changes`."""

    topic = models.CharField(max_length=64, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.topic} {self.value}"
