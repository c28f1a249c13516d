"""Write a small Llama with random weights as a Hugging Face folder: `make_tiny_llama.py FOLDER`.

The folder holds config.json, model.safetensors, a byte-level tokenizer trained on the text below
and a chat template. Nothing is downloaded, and neither torch nor transformers is needed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

TEXT = """
A chip does what its instructions say, and takes the time that its engines need.
The tensor engine multiplies, the vector engine adds, the scalar engine bends a line into a curve.
What a token costs depends on the batch, on the context and on the bytes that have to move.
Hello! How are you today? I am a small model with random weights, and I know nothing at all.
"""


def make_tokenizer(vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer on TEXT; it has at most `vocab_size` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    return tokenizer


def make_weights(config: dict, seed: int) -> dict[str, np.ndarray]:
    """Return random float32 weights under the names of Hugging Face's LlamaForCausalLM."""
    random = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv_size = hidden // config["num_attention_heads"] * config["num_key_value_heads"]

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    def scale() -> np.ndarray:
        return (1.0 + random.normal(0.0, 0.1, hidden)).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": matrix(config["vocab_size"], hidden) * 4,
        "model.norm.weight": scale(),
        "lm_head.weight": matrix(config["vocab_size"], hidden) * 2,
    }
    for layer in range(config["num_hidden_layers"]):
        shapes = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv_size, hidden),
            "self_attn.v_proj": (kv_size, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        prefix = f"model.layers.{layer}"
        for name, shape in shapes.items():
            weights[f"{prefix}.{name}.weight"] = matrix(*shape)
        weights[f"{prefix}.input_layernorm.weight"] = scale()
        weights[f"{prefix}.post_attention_layernorm.weight"] = scale()
    return weights


def make_config(args: argparse.Namespace, vocab_size: int) -> dict:
    """Return the config.json of the model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": args.hidden_size,
        "intermediate_size": args.hidden_size * 3,
        "num_hidden_layers": args.layers,
        "num_attention_heads": args.heads,
        "num_key_value_heads": args.kv_heads,
        "head_dim": args.hidden_size // args.heads,
        "vocab_size": vocab_size,
        "max_position_embeddings": args.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "float32",
    }


def write_model(folder: Path, args: argparse.Namespace) -> None:
    """Write the whole folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(args.vocab_size)
    config = make_config(args, tokenizer.get_vocab_size())
    save_file(make_weights(config, args.seed), folder / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": args.context,
        "chat_template": CHAT_TEMPLATE,
    }
    for name, content in (("config", config), ("tokenizer_config", tokenizer_config)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=384)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse_arguments()
    write_model(options.folder, options)
    print(f"wrote {options.folder}; now: emuron serve {options.folder} --on inf2.xlarge")
