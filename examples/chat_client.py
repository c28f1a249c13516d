"""Chat with a running server over the OpenAI client: `chat_client.py "Hello" [--port 8000]`."""

from __future__ import annotations

import argparse
import time

from openai import OpenAI


def main() -> None:
    """Stream one answer to the terminal and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--api-key", default="none")
    options = parser.parse_args()
    url = f"http://127.0.0.1:{options.port}/v1"
    client = OpenAI(base_url=url, api_key=options.api_key)
    started = time.perf_counter()
    first = None
    stream = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": options.prompt}],
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.choices:
            first = first or time.perf_counter() - started
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        elif chunk.usage:
            tokens = chunk.usage.completion_tokens
            total = time.perf_counter() - started
            print(f"\n[{tokens} tokens in {total:.3f} s, the first after {first or total:.3f} s]")


if __name__ == "__main__":
    main()
