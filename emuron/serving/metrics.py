"""Prometheus metrics under the names of vLLM and of its Neuron plug-in, one registry a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emuron.errors import missing_extra
from emuron.serving.engine import LLMEngine, StepReport
from emuron.serving.sequence import Sequence

# Bucket limits of vllm/v1/metrics/loggers.py, so that its Grafana dashboard reads ours unchanged.
_FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_GAP_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0),
)
_REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_ITERATION_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_PADDING = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

_TIMES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "time_to_first_token_seconds": ("Time to first token in seconds.", _FIRST_TOKEN_S),
    "inter_token_latency_seconds": ("Inter-token latency in seconds.", _TOKEN_GAP_S),
    "request_time_per_output_token_seconds": (
        "Time per output token of a request in seconds.",
        _TOKEN_GAP_S,
    ),
    "e2e_request_latency_seconds": ("End to end request latency in seconds.", _REQUEST_S),
    "request_queue_time_seconds": ("Time spent waiting in seconds.", _REQUEST_S),
    "request_inference_time_seconds": ("Time from first step to last in seconds.", _REQUEST_S),
    "request_prefill_time_seconds": ("Time spent in prefill in seconds.", _REQUEST_S),
    "request_decode_time_seconds": ("Time spent in decode in seconds.", _REQUEST_S),
}


def _token_counts(max_model_len: int) -> list[int]:
    """Return vLLM's 1-2-5 limits up to the context length."""
    limits = [m * 10**e for e in range(10) for m in (1, 2, 5)]
    return [limit for limit in limits if limit <= max_model_len]


class ServerMetrics:
    """Counts what one engine does; raises MissingExtraError without prometheus-client."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, engine: LLMEngine, model_name: str) -> None:
        """Watch `engine`, labelling every series with `model_name`."""
        try:
            import prometheus_client
        except ImportError as error:
            raise missing_extra(error, "the /metrics endpoint") or error from error
        self._library: Any = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": "0"}
        self._engine = engine
        self._gauges()
        self._counters()
        self._histograms(engine.scheduler.config.max_model_len)
        engine.observer = self

    def render(self) -> bytes:
        """Return the exposition text."""
        return bytes(self._library.generate_latest(self._registry))

    def on_step(self, report: StepReport) -> None:
        """Count tokens, padding and gaps of one step."""
        plan = report.plan
        produced = len(plan.sequences) * plan.steps
        self._preemptions.inc(report.preemptions)
        self._generation_tokens.inc(produced)
        computed = produced
        if plan.kind == "prefill":
            sequence = plan.sequences[0]
            computed = sequence.num_tokens
            if not sequence.output_token_ids:  # a preempted prompt is counted once
                self._prompt_tokens.inc(computed)
        self._iteration_tokens.observe(computed)
        self._executions.inc(plan.steps)
        padding = self._token_padding if plan.kind == "prefill" else self._seq_padding
        padding.labels(**self._labels, bucket_name=self._bucket_name(report)).observe(
            plan.padded_tokens
        )
        for sequence in plan.sequences:
            self._observe_token(sequence, report)

    def on_finish(self, sequence: Sequence, reason: str) -> None:
        """Count one ended request and where its time went."""
        self._success.labels(**self._labels, finished_reason=reason).inc()
        params, times = sequence.request.params, sequence.times
        outputs = len(sequence.output_token_ids)
        self._request_prompt_tokens.observe(sequence.num_prompt)
        self._request_generation_tokens.observe(outputs)
        self._request_max_generation_tokens.observe(outputs)
        self._params_n.observe(params.n)
        if params.max_tokens is not None:
            self._params_max_tokens.observe(params.max_tokens)
        if times.finished_ps is None or times.scheduled_ps is None or times.first_token_ps is None:
            return
        last_ps = times.last_token_ps or times.first_token_ps
        decode_s = (last_ps - times.first_token_ps) / 1e12
        seconds = {
            "e2e_request_latency_seconds": (times.finished_ps - times.arrival_ps) / 1e12,
            "request_queue_time_seconds": (times.scheduled_ps - times.arrival_ps) / 1e12,
            "request_inference_time_seconds": (last_ps - times.scheduled_ps) / 1e12,
            "request_prefill_time_seconds": (times.first_token_ps - times.scheduled_ps) / 1e12,
            "request_decode_time_seconds": decode_s,
        }
        if outputs > 1:
            seconds["request_time_per_output_token_seconds"] = decode_s / (outputs - 1)
        for name, value in seconds.items():
            self._times[name].observe(value)

    def _observe_token(self, sequence: Sequence, report: StepReport) -> None:
        times = sequence.times
        if times.first_token_ps is None:
            wait_ps = report.end_ps - times.arrival_ps
            self._times["time_to_first_token_seconds"].observe(wait_ps / 1e12)
            return
        last_ps = times.last_token_ps or times.first_token_ps
        gap_s = (report.end_ps - last_ps) / report.plan.steps / 1e12
        for _ in range(report.plan.steps):
            self._times["inter_token_latency_seconds"].observe(gap_s)

    @staticmethod
    def _bucket_name(report: StepReport) -> str:
        plan = report.plan
        if plan.kind == "prefill":
            return f"prefill_{plan.token_bucket}"
        return f"decode_{plan.batch_bucket}x{plan.context}"

    def _make(self, kind: str, name: str, text: str, *labels: str, **options: Any) -> Any:
        """Return a metric of the registry, its common labels set unless it has more of its own."""
        metric = getattr(self._library, kind)(
            name, text, [*self._labels, *labels], registry=self._registry, **options
        )
        return metric if labels else metric.labels(**self._labels)

    def _gauges(self) -> None:
        scheduler = self._engine.scheduler
        for name, text, read in (
            ("vllm:num_requests_running", "Requests in the batch.", lambda: len(scheduler.running)),
            ("vllm:num_requests_waiting", "Requests in the queue.", lambda: len(scheduler.waiting)),
            ("vllm:kv_cache_usage_perc", "KV cache in use, 1 is all.", lambda: scheduler.kv.usage),
            (
                "emuron:paced_lag_seconds",
                "How long steps took beyond the instance's time, summed up.",
                lambda: self._engine.clock.lag_ps / 1e12,
            ),
        ):
            self._make("Gauge", name, text).set_function(read)
        config = scheduler.config
        self._make(
            "Gauge", "vllm:cache_config_info", "The KV cache.", "block_size", "num_gpu_blocks"
        ).labels(
            **self._labels, block_size=config.block_size, num_gpu_blocks=config.total_blocks
        ).set(1)

    def _counters(self) -> None:
        self._preemptions = self._make("Counter", "vllm:num_preemptions", "Preemptions.")
        self._prompt_tokens = self._make("Counter", "vllm:prompt_tokens", "Prefill tokens.")
        self._generation_tokens = self._make(
            "Counter", "vllm:generation_tokens", "Generated tokens."
        )
        self._success = self._make(
            "Counter", "vllm:request_success", "Requests that ended.", "finished_reason"
        )
        self._executions = self._make(
            "Counter", "vllm_neuron:neff_execution_count", "Compiled graphs executed."
        )

    def _histograms(self, max_model_len: int) -> None:
        def histogram(name: str, text: str, limits: Any, *labels: str) -> Any:
            return self._make("Histogram", name, text, *labels, buckets=limits)

        counts = _token_counts(max_model_len)
        self._times = {
            name: histogram(f"vllm:{name}", text, limits) for name, (text, limits) in _TIMES.items()
        }
        self._iteration_tokens = histogram(
            "vllm:iteration_tokens_total", "Tokens computed by one step.", _ITERATION_TOKENS
        )
        self._request_prompt_tokens = histogram(
            "vllm:request_prompt_tokens", "Prompt tokens of a request.", counts
        )
        self._request_generation_tokens = histogram(
            "vllm:request_generation_tokens", "Generated tokens of a request.", counts
        )
        self._request_max_generation_tokens = histogram(
            "vllm:request_max_num_generation_tokens", "Most tokens of one choice.", counts
        )
        self._params_n = histogram("vllm:request_params_n", "Choices asked for.", (1, 2, 5, 10, 20))
        self._params_max_tokens = histogram(
            "vllm:request_params_max_tokens", "Tokens asked for.", counts
        )
        self._seq_padding = histogram(
            "vllm_neuron:num_seqs_padding", "Empty slots of a decode.", _PADDING, "bucket_name"
        )
        self._token_padding = histogram(
            "vllm_neuron:num_batched_tokens_padding",
            "Padding of a prefill.",
            _PADDING,
            "bucket_name",
        )
