from gateway.admin.cache import CachedCompletionAdmin
from gateway.admin.keys import ApiKeyAdmin
from gateway.admin.limits import LedgerEntryAdmin, QuotaAdmin, QuotaWindowAdmin, RateLimitAdmin
from gateway.admin.processes import GatewayProcessAdmin
from gateway.admin.teams import MembershipAdmin, TeamAdmin
from gateway.admin.usage import (
    InferenceLogAdmin,
    RequestBodyAdmin,
    UsageRecordAdmin,
    UsageRollupAdmin,
)

__all__ = [
    "ApiKeyAdmin",
    "CachedCompletionAdmin",
    "GatewayProcessAdmin",
    "InferenceLogAdmin",
    "LedgerEntryAdmin",
    "MembershipAdmin",
    "QuotaAdmin",
    "QuotaWindowAdmin",
    "RateLimitAdmin",
    "RequestBodyAdmin",
    "TeamAdmin",
    "UsageRecordAdmin",
    "UsageRollupAdmin",
]
