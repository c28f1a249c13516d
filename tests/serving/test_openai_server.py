"""The server over a loopback socket, spoken to by the openai client and by hand."""

import concurrent.futures
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.serving.async_engine import AsyncLLMEngine
from emuron.serving.clock import make_clock
from emuron.serving.engine import LLMEngine
from emuron.serving.listener import open_listener
from emuron.serving.runner import ModelTokenSource
from emuron.serving.scheduler import SchedulerConfig
from emuron.serving.step_timer import TableStepTimer

pytestmark = pytest.mark.serve
openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
server_module = pytest.importorskip("emuron.serving.openai_server")
parser = pytest.importorskip("prometheus_client.parser")

STEP_S = 0.002
HELLO = [{"role": "user", "content": "Hello"}]


class Running:
    """A server in a thread."""

    def __init__(self, folder: Path, history_model: type, api_key: str | None = None) -> None:
        tokenizer = Tokenizer.open(folder)
        config = SchedulerConfig(max_model_len=256, max_num_seqs=8)
        model = history_model(config.total_blocks, config.block_size, vocab_size=384)
        source = ModelTokenSource(model, config.resolved_buckets.context, (1,))
        decode_s = dict.fromkeys(config.resolved_buckets.decode_batch, STEP_S)
        self.engine = LLMEngine(
            config,
            source,
            TableStepTimer({128: STEP_S, 256: STEP_S}, decode_s),
            clock=make_clock("paced"),
            tokenizer=tokenizer,
            eos_token_ids=(1,),
        )
        served = server_module.ServedModel("tiny", 256, api_key, max_body_bytes=100_000)
        server = server_module.OpenAIServer(AsyncLLMEngine(self.engine), tokenizer, served)
        self._listener = open_listener("127.0.0.1", 0)
        self._server = uvicorn.Server(server_module.server_config(server, "warning"))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Running":
        self._thread.start()
        for _ in range(500):
            if self._server.started:
                return self
            time.sleep(0.01)
        raise AssertionError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._listener.close()

    def wait_until_idle(self) -> None:
        for _ in range(500):
            if not self.engine.has_unfinished_requests:
                return
            time.sleep(0.01)
        raise AssertionError("requests are still under way")

    def aborted(self) -> float:
        """How many requests ended because nobody read their answers."""
        families = parser.text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "vllm:request_success_total"
            and sample.labels["finished_reason"] == "abort"
        )


@pytest.fixture(scope="module")
def running(tiny_llama: Path, history_model: type) -> Iterator[Running]:
    with Running(tiny_llama, history_model) as server:
        yield server


@pytest.fixture
def client(running: Running) -> Iterator["openai.OpenAI"]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture
def http(running: Running) -> Iterator["httpx.Client"]:
    with httpx.Client(base_url=running.url, timeout=30) as opened:
        yield opened


def chat(client: "openai.OpenAI", **options: object) -> str:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, **options)
    return answer.choices[0].message.content


def test_a_streamed_chat_equals_the_whole_one(client: "openai.OpenAI") -> None:
    whole = chat(client, max_tokens=20, temperature=0)
    stream = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=20,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 20


def test_sixteen_clients_at_once_get_the_texts_of_one_after_another(
    client: "openai.OpenAI",
) -> None:
    def ask(seed: int) -> str:
        return chat(client, max_tokens=12, seed=seed, temperature=0.8)

    alone = [ask(seed) for seed in range(16)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == alone
    assert len(set(alone)) > 8


def test_a_client_that_hangs_up_frees_its_blocks(running: Running, http: "httpx.Client") -> None:
    body = {"model": "tiny", "messages": HELLO, "ignore_eos": True, "stream": True}
    before = running.aborted()
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        assert running.engine.scheduler.kv.usage > 0
    running.wait_until_idle()
    assert running.engine.scheduler.kv.usage == 0.0
    assert running.aborted() == before + 1


def test_a_client_that_does_not_wait_for_a_whole_answer_frees_its_blocks(
    running: Running, http: "httpx.Client"
) -> None:
    body = {"model": "tiny", "messages": HELLO, "ignore_eos": True, "n": 8}
    before = running.aborted()
    with pytest.raises(httpx.TimeoutException):
        http.post("/v1/chat/completions", json=body, timeout=0.15)
    running.wait_until_idle()
    assert running.engine.scheduler.kv.usage == 0.0
    assert running.aborted() == before + 8


def test_n_choices_differ_and_usage_counts_them_all(client: "openai.OpenAI") -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, n=3, seed=1, max_tokens=10, extra_body={"ignore_eos": True}
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage.completion_tokens == 30


def test_a_stop_string_ends_the_text_before_itself(client: "openai.OpenAI") -> None:
    whole = chat(client, max_tokens=30, temperature=0)
    stop = whole[5:8]
    assert chat(client, max_tokens=30, temperature=0, stop=[stop]) == whole[: whole.index(stop)]


def test_completions_of_several_prompts_keep_their_order(client: "openai.OpenAI") -> None:
    options = {"model": "tiny", "max_tokens": 5, "temperature": 0}
    both = client.completions.create(prompt=["Hello", "you"], echo=True, **options)
    one = client.completions.create(prompt="you", **options)
    assert both.choices[0].text.startswith("Hello")
    assert both.choices[1].text == "you" + one.choices[0].text


def test_logprobs_come_for_every_token(client: "openai.OpenAI") -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == 4
    for token in content:
        assert token.logprob == max(t.logprob for t in token.top_logprobs)
        assert len(token.top_logprobs) == 3
    legacy = client.completions.create(model="tiny", prompt="Hello", max_tokens=4, logprobs=2)
    assert len(legacy.choices[0].logprobs.token_logprobs) == 4


def test_a_prompt_beyond_the_context_is_a_400_with_the_counts(client: "openai.OpenAI") -> None:
    with pytest.raises(openai.BadRequestError, match=r"256 tokens.*300 tokens") as caught:
        client.completions.create(model="tiny", prompt=[5] * 300, max_tokens=10)
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_model_is_a_404(client: "openai.OpenAI") -> None:
    with pytest.raises(openai.NotFoundError, match=r"'gpt-9' is not served here.*'tiny'"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)


def test_the_models_are_listed(client: "openai.OpenAI") -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"messages": []}', "at least one message"),
        (b'{"messages": [{"role":"user","content":"\\ud800"}]}', "lone surrogate"),
        (b'{"messages": [{"role":"user","content":"x"}], "logit_bias": {"999": 1}}', "token 999"),
    ],
)
def test_a_bad_body_is_a_400_in_openai_form(
    http: "httpx.Client", content: bytes, message: str
) -> None:
    response = http.post("/v1/chat/completions", content=content)
    assert response.status_code == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_a_413(http: "httpx.Client") -> None:
    response = http.post("/v1/completions", content=b"x" * 200_000)
    assert response.status_code == 413
    assert "100000 bytes" in response.json()["error"]["message"]


def test_an_unknown_path_and_method_answer_in_openai_form(http: "httpx.Client") -> None:
    assert http.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert http.get("/v1/completions").status_code == 405


def test_health_version_and_tokens(http: "httpx.Client", tokenizer: Tokenizer) -> None:
    assert http.get("/health").status_code == 200
    assert "version" in http.get("/version").json()
    tokens = http.post("/tokenize", json={"prompt": "Hello you"}).json()
    assert tokens["tokens"] == tokenizer.encode("Hello you")
    assert tokens["count"] == len(tokens["tokens"])
    text = http.post("/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert text == {"prompt": "Hello you"}
    assert http.post("/tokenize", json={"messages": HELLO}).json()["count"] > 3
    assert http.post("/detokenize", json={"tokens": "x"}).status_code == 400


def test_the_metrics_parse_and_count(client: "openai.OpenAI", http: "httpx.Client") -> None:
    def read() -> dict[str, float]:
        families = parser.text_string_to_metric_families(http.get("/metrics").text)
        return {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if "le" not in sample.labels
        }

    before = read()
    chat(client, max_tokens=6, extra_body={"ignore_eos": True})
    after = read()
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    assert grown["vllm:generation_tokens_total"] == 6
    assert grown["vllm:time_to_first_token_seconds_count"] == 1
    assert grown["vllm:inter_token_latency_seconds_count"] == 5
    assert grown["vllm:e2e_request_latency_seconds_count"] == 1
    assert grown["vllm_neuron:neff_execution_count_total"] == 6
    assert after["vllm:num_requests_running"] == 0
    assert after["vllm:kv_cache_usage_perc"] == 0
    assert after["vllm_neuron:num_seqs_padding_count"] > 0


def test_paced_tokens_take_the_time_of_the_instance(running: Running) -> None:
    """Only the lower bound: a busy computer may be later."""
    sent_s = time.monotonic()
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": 50, "ignore_eos": True}
    response = httpx.post(f"{running.url}/v1/completions", json=body, timeout=30)
    assert response.json()["usage"]["completion_tokens"] == 50
    assert time.monotonic() - sent_s >= 50 * STEP_S


def test_an_api_key_is_asked_for_under_v1_alone(tiny_llama: Path, history_model: type) -> None:
    with Running(tiny_llama, history_model, api_key="secret") as running:
        assert httpx.get(f"{running.url}/health").status_code == 200
        refused = httpx.get(f"{running.url}/v1/models")
        assert refused.status_code == 401
        assert json.loads(refused.text)["error"]["code"] == "invalid_api_key"
        for value in ("Bearer wrong", "Basic secret", "secret"):
            headers = {"Authorization": value}
            assert httpx.get(f"{running.url}/v1/models", headers=headers).status_code == 401
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="secret") as client:
            assert chat(client, max_tokens=2)
