import json
from pathlib import Path

import pytest
import yaml

from benchmarks import gateway
from benchmarks.gateways import answers, launch, load, memory, paced, targets, turns, upstream
from benchmarks.gateways.load import Measured
from benchmarks.gateways.plan import QUICK
from benchmarks.gateways.upstream import Upstream
from benchmarks.worker import MeasurementFailed
from models_registry import yaml_file

MOCK = Upstream("http://127.0.0.1:1", "http://127.0.0.1:2", "nginx")
ASK = targets.Ask("http://127.0.0.1:3/v1/x", {"a": 'b"c'}, b'{"text": "one\\ntwo"}')
RESULT = (
    '{"requests": 40, "microseconds": 2000000, "refused": 3, "broken": 0, '
    '"p50_us": 1500.0, "p99_us": 9000.0}'
)


def test_the_default_run_measures_everything() -> None:
    options = gateway.parse([])
    assert options.only == list(gateway.PARTS)
    assert not options.quick


def test_the_result_of_wrk_is_found_in_what_it_prints() -> None:
    found = load.read_output(f"Running 2s test\n{load.MARK}{RESULT}\n")
    assert found == Measured(40, 2.0, 3, 0, 0.0015, 0.009)
    assert found.rate == 20


def test_output_without_a_result_is_no_measurement() -> None:
    with pytest.raises(MeasurementFailed, match="unable to connect"):
        load.read_output("unable to connect to 127.0.0.1:1")


def test_the_script_for_wrk_carries_body_and_headers() -> None:
    script = load.script_for(ASK)
    assert 'wrk.headers["a"] = "b\\"c"' in script
    assert 'wrk.body = "{\\"text\\": \\"one\\\\ntwo\\"}"' in script


def test_a_window_lasts_for_several_answers_of_each_client() -> None:
    assert QUICK.window(32, rate=5000) == QUICK.window_s
    assert QUICK.window(32, rate=16) == 2 * QUICK.answers_per_client
    assert QUICK.window(32, rate=0) == QUICK.longest_s


def test_what_the_upstream_takes_is_taken_off() -> None:
    through, direct = Measured(1, 1, 0, 0, 0.005, 1), Measured(1, 1, 0, 0, 0.002, 1)
    assert turns.added_ms([through], [direct]).values == pytest.approx((3.0,))


def test_the_mocks_own_answers_pass_the_check() -> None:
    answers.check_completion(answers.completion())
    answers.check_stream(answers.stream())


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error": "x"}'])
def test_another_completion_does_not(body: bytes) -> None:
    with pytest.raises(MeasurementFailed):
        answers.check_completion(body)


def test_a_stream_that_lost_a_token_does_not() -> None:
    body = answers.stream().replace(answers.token(" w7"), b"")
    with pytest.raises(MeasurementFailed, match="not the 64 tokens"):
        answers.check_stream(body)


def test_our_models_file_is_one_that_the_server_takes(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(launch.our_models(launch.Setup(MOCK, tmp_path, 600)))
    assert [entry.name for entry in yaml_file.load(file).models] == list(targets.KINDS)


def test_litellm_gets_a_master_key_and_the_same_upstream(tmp_path: Path) -> None:
    config = yaml.safe_load(launch.litellm_config(launch.Setup(MOCK, tmp_path, 600)))
    assert config["general_settings"] == {"master_key": launch.MASTER_KEY}
    bases = [model["litellm_params"]["api_base"] for model in config["model_list"]]
    assert bases == [MOCK.base_url(kind, 600) for kind in targets.KINDS]


def test_nginx_is_given_the_answers_as_files(tmp_path: Path) -> None:
    config = upstream.write_nginx_config(tmp_path, 4711).read_text()
    assert "listen 127.0.0.1:4711" in config
    assert json.loads((tmp_path / "completion.json").read_bytes())["object"] == "chat.completion"


def test_shared_memory_of_children_counts_by_share(tmp_path: Path) -> None:
    for pid, parent, share in ((7, 1, 300), (8, 7, 200), (9, 1, 999)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (a ) b) S {parent} 0")
        (folder / "smaps_rollup").write_text(f"Rss: 5000 kB\nPss:  {share} kB\n")
    assert memory.tree_bytes(7, tmp_path) == 500 * 1024


def test_only_tokens_sent_while_all_streams_ran_count() -> None:
    sent = [(1.0, 0.1), (2.5, 0.2), (3.5, 0.3), (9.0, 0.4)]
    seen = paced.Streams(began=[0.5, 2.0], ended=[4.0, 9.5], sent_and_delay=sent)
    assert paced.steady_delays(seen, 2) == [0.2, 0.3]


def test_streams_that_never_ran_at_once_are_no_measurement() -> None:
    seen = paced.Streams(began=[0.5, 5.0], ended=[4.0, 9.5], sent_and_delay=[(4.5, 0.1)])
    with pytest.raises(MeasurementFailed, match="never ran at once"):
        paced.steady_delays(seen, 2)
