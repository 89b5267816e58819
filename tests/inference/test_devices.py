import pytest

from inference.devices import AvailableDevices, UnusableDevice, choose_device

EVERYTHING = AvailableDevices(cuda=True, cuda_bf16=True, mps=True)


@pytest.mark.parametrize(
    ("available", "device", "dtype"),
    [
        pytest.param(EVERYTHING, "cuda", "bf16", id="cuda first"),
        pytest.param(AvailableDevices(cuda=True), "cuda", "fp16", id="an older GPU"),
        pytest.param(AvailableDevices(mps=True), "mps", "fp16", id="then mps"),
        pytest.param(AvailableDevices(), "cpu", "fp32", id="else the CPU"),
    ],
)
def test_it_picks_the_fastest_device_and_its_format(available, device, dtype):
    choice = choose_device("auto", available)
    assert (choice.device, choice.dtype) == (device, dtype)


def test_it_takes_the_configured_device_over_a_faster_one():
    assert choose_device("cpu", EVERYTHING).device == "cpu"


def test_it_names_what_there_is_when_a_device_is_missing():
    with pytest.raises(UnusableDevice, match="'cuda' is not available here; this machine has mps"):
        choose_device("cuda", AvailableDevices(mps=True))


@pytest.mark.parametrize("weights", ["int8", "fp16", "bf16"])
def test_a_cpu_computes_in_fp32_however_the_weights_are_held(weights):
    choice = choose_device("cpu", AvailableDevices(), weights)
    assert choice.dtype == "fp32"
    assert "computes in fp32" in choice.reason


@pytest.mark.parametrize("weights", ["fp32", "fp16", "bf16"])
def test_it_keeps_the_configured_format_on_a_gpu(weights):
    assert choose_device("cuda", EVERYTHING, weights).dtype == weights


def test_it_uses_fp16_where_the_gpu_lacks_bf16():
    choice = choose_device("cuda", AvailableDevices(cuda=True), "bf16")
    assert choice.dtype == "fp16"
    assert "does not support" in choice.reason


def test_it_names_the_possible_formats_when_int8_is_asked_of_a_gpu():
    with pytest.raises(UnusableDevice, match="auto, fp32, fp16 or bf16"):
        choose_device("cuda", EVERYTHING, "int8")


def test_it_refuses_weights_it_does_not_know():
    with pytest.raises(UnusableDevice, match="weights 'int3' is unknown"):
        choose_device("cpu", AvailableDevices(), "int3")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps"])
def test_it_always_gives_a_reason(device):
    assert choose_device(device, EVERYTHING).reason
