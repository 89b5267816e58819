"""Which device and number format a model runs in, and why; the probing is done by the caller."""

from dataclasses import dataclass

DEVICES = ("cuda", "mps", "cpu")
WEIGHTS = ("auto", "fp32", "fp16", "bf16", "int8")


class UnusableDevice(ValueError):
    """What was asked for cannot be had here; the message names what can."""


@dataclass(frozen=True, slots=True)
class AvailableDevices:
    """What a probe of this machine found; the CPU is always there."""

    cuda: bool = False
    cuda_bf16: bool = False
    mps: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        found = {"cuda": self.cuda, "mps": self.mps, "cpu": True}
        return tuple(name for name in DEVICES if found[name])


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """`dtype` is what is computed in, fp32, fp16 or bf16; `reason` is shown beside the choice."""

    device: str
    dtype: str
    reason: str


def choose_device(wanted: str, available: AvailableDevices, weights: str = "auto") -> DeviceChoice:
    """Raises UnusableDevice for a device that is not there or weights that it cannot hold."""
    if weights not in WEIGHTS:
        raise UnusableDevice(f"weights {weights!r} is unknown; use one of {', '.join(WEIGHTS)}.")
    device, why_device = _device(wanted, available)
    dtype, why_dtype = _dtype(device, weights, available)
    return DeviceChoice(device, dtype, f"{why_device}; {why_dtype}")


def _device(wanted: str, available: AvailableDevices) -> tuple[str, str]:
    names = available.names
    if wanted == "auto":
        missing = [name for name in DEVICES if name not in names]
        return names[0], f"no {' or '.join(missing)} here" if missing else "fastest device here"
    if wanted not in names:
        raise UnusableDevice(
            f"device {wanted!r} is not available here; this machine has {', '.join(names)}. "
            "Set `device` in models.yaml to one of them, or to auto."
        )
    return wanted, "as configured"


def _dtype(device: str, weights: str, available: AvailableDevices) -> tuple[str, str]:
    if device == "cpu":
        # Below AVX-512, torch multiplies half-precision matrices of more than one row 44 to 500
        # times slower than fp32 ones. Weights may be smaller, see `inference.local.linear`.
        return "fp32", "computes in fp32, the fast format on a CPU"
    if weights == "int8":
        raise UnusableDevice(
            f"weights int8 is not available on {device}; set `weights` in models.yaml to auto, "
            "fp32, fp16 or bf16."
        )
    if weights == "auto":
        return _half_precision(device, available)
    if weights == "bf16" and device == "cuda" and not available.cuda_bf16:
        return "fp16", "fp16 instead of bf16, which this GPU does not support"
    return weights, f"{weights} as configured"


def _half_precision(device: str, available: AvailableDevices) -> tuple[str, str]:
    if device == "mps":
        return "fp16", "fp16 is the fast format on mps"
    if available.cuda_bf16:
        return "bf16", "bf16 is supported by this GPU"
    return "fp16", "this GPU does not support bf16"
