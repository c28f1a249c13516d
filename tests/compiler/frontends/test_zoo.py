"""The zoo: names, inheritance, small variants and the parts that PyTorch builds."""

from __future__ import annotations

import pytest

from emuron.compiler.frontends.model import Model
from emuron.compiler.frontends.zoo import open_model, zoo, zoo_name
from emuron.compiler.frontends.zoo_entries import FAMILIES
from emuron.errors import ModelFileError, UnknownNameError


def test_a_model_is_found_by_its_name_an_alias_and_its_hub_name():
    assert zoo_name("roberta-base") == "roberta-base"
    assert zoo_name("FacebookAI/roberta-base") == "roberta-base"
    assert zoo_name("Stable Diffusion 1.5") == "stable-diffusion-v1-5"
    assert zoo_name("openai/clip-vit-base-patch32") == "clip-vit-base-patch32"
    assert zoo_name("no-such-model") is None


def test_no_two_models_share_a_name():
    names = [n.lower() for e in zoo().values() for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))
    assert {e.family for e in zoo().values()} <= set(FAMILIES)


def test_an_entry_like_another_takes_its_fields_and_overrides_some():
    base, large = zoo()["bert-base-uncased"].config, zoo()["bert-large-cased"].config
    assert (large["hidden_size"], large["vocab_size"]) == (1024, 28996)
    assert large["layer_norm_eps"] == base["layer_norm_eps"]


def test_a_small_variant_has_fewer_layers_of_less_width():
    full, small = open_model("llama-3-8b", weights=False), open_model("llama-3-8b", small=True)
    big, little = (m.graph(1, 16, "decode") for m in (full, small))
    assert little.parameter_bytes < big.parameter_bytes / 1000
    assert {n.op.name for n in little.nodes} == {n.op.name for n in big.nodes}


def test_every_model_opens_and_tells_its_parts():
    for name, entry in zoo().items():
        if entry.is_native:
            opened = open_model(name, weights=False)
            assert isinstance(opened, Model)
            assert opened.parts
        else:
            assert all(p.runs >= 1 and p.inputs for p in entry.parts.values())


def test_what_is_no_model_is_refused():
    with pytest.raises(UnknownNameError, match="bert-base-uncased"):
        open_model("bert-base-uncase")
    with pytest.raises(ModelFileError, match="does not exist"):
        open_model("./nowhere/model")


@pytest.mark.torch
def test_a_part_that_pytorch_builds_gives_a_graph_with_and_without_weights():
    pytest.importorskip("transformers")
    model = open_model("t5-small", small=True)
    assert model.parts == (("encoder", 1), ("decode", 1))
    graph = model.graph(2, 8, "encoder")
    bare = open_model("t5-small", small=True, weights=False).graph(2, 8, "encoder")
    assert [n.op for n in graph.nodes] == [n.op for n in bare.nodes]
    assert [p.type for p in graph.parameters] == [p.type for p in bare.parameters]
    assert all(p.loader is not None for p in graph.parameters)
    known = [p.name for p in bare.parameters if p.loader is not None]
    assert all(".constant." in name for name in known)
    with pytest.raises(UnknownNameError, match="part of t5-small"):
        model.graph(2, 8, "classify")
