from django.contrib import admin

from gateway.admin.read_only import ReadOnlyAdmin
from gateway.models import GatewayProcess
from models_registry import changes


@admin.register(GatewayProcess)
class GatewayProcessAdmin(ReadOnlyAdmin):
    """Which process goes by the newest change of keys and teams already."""

    list_display = (
        *("__str__", "is_heard_of", "is_up_to_date", "keys_applied", "keys_applied_at"),
        *("started_at", "heartbeat_at"),
    )
    search_fields = ("host",)

    @admin.display(description="Live", boolean=True)
    def is_heard_of(self, process: GatewayProcess) -> bool:
        return process.is_live

    @admin.display(description="Up to date", boolean=True)
    def is_up_to_date(self, process: GatewayProcess) -> bool:
        return process.keys_applied >= changes.value(changes.KEYS)
