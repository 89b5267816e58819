from models_registry.models import Backend
from models_registry.observed import Observed, ObservedState

STATE_COLOURS = {
    ObservedState.READY.value: "success",
    ObservedState.REMOTE.value: "success",
    ObservedState.LOADING.value: "info",
    ObservedState.STARTING.value: "info",
    ObservedState.WAITING.value: "warning",
    ObservedState.UNLOADING.value: "warning",
    ObservedState.NOT_LOADED.value: "default",
    ObservedState.DISABLED.value: "default",
    ObservedState.FAILED.value: "danger",
}
RUNNER_COLOURS = {
    "ready": "success",
    "loading": "info",
    "starting": "info",
    "draining": "warning",
    "failed": "danger",
    "stopped": "default",
}
PROVENANCE_COLOURS = {"file": "info", "admin": "primary"}
HOST_COLOURS = {"alive": "success", "stopped": "default", "silent": "danger"}


def state_label(backend: Backend) -> tuple[str, str]:
    """The key of the colour, and the words."""
    observed = Observed.of(backend)
    return observed.state.value, observed.text


def leading_state(backends: list[Backend]) -> tuple[str, str]:
    """One label for a whole model: what can serve, else what is on its way, else the first."""
    labels = [state_label(backend) for backend in backends]
    order = list(STATE_COLOURS)
    return min(labels, key=lambda label: order.index(label[0]), default=("disabled", "no backend"))
