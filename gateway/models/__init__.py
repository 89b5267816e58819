from gateway.models.cache import CachedCompletion
from gateway.models.keys import ApiKey, BodyPolicy
from gateway.models.limits import (
    LedgerEntry,
    LedgerKind,
    Period,
    PolicyMode,
    Quota,
    QuotaUnit,
    QuotaWindow,
    RateLimit,
)
from gateway.models.processes import GatewayProcess
from gateway.models.teams import Membership, Role, Team
from gateway.models.usage import (
    InferenceLog,
    RequestBody,
    RequestStatus,
    UsageRecord,
    UsageRollup,
)

__all__ = [
    "ApiKey",
    "BodyPolicy",
    "CachedCompletion",
    "GatewayProcess",
    "InferenceLog",
    "LedgerEntry",
    "LedgerKind",
    "Membership",
    "Period",
    "PolicyMode",
    "Quota",
    "QuotaUnit",
    "QuotaWindow",
    "RateLimit",
    "RequestBody",
    "RequestStatus",
    "Role",
    "Team",
    "UsageRecord",
    "UsageRollup",
]
