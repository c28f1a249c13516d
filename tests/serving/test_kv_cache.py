"""The block table of the KV cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emuron.errors import CapacityError, UsageError
from emuron.serving.kv_cache import KVCacheManager, blocks_in_budget

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("allocate", "append", "trim", "free")),
        st.integers(0, 4),
        st.integers(1, 40),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_every_block_is_free_or_has_one_owner(actions: list[tuple[str, int, int]]) -> None:
    kv = KVCacheManager(num_blocks=12, block_size=4)
    lengths: dict[str, int] = {}
    for action, which, tokens in actions:
        name = f"r{which}"
        if action == "allocate" and name not in lengths and kv.can_allocate(tokens):
            kv.allocate(name, tokens)
            lengths[name] = tokens
        elif action == "append" and name in lengths and tokens > lengths[name]:
            lengths[name] = tokens if kv.append(name, tokens) else lengths[name]
        elif action == "trim" and name in lengths and tokens < lengths[name]:
            kv.trim(name, tokens)
            lengths[name] = tokens
        elif action == "free":
            kv.free(name)
            lengths.pop(name, None)
        held = [block for name in lengths for block in kv.block_table(name)]
        assert len(held) == len(set(held))
        assert len(held) + kv.num_free == 12
        assert set(kv.holders) == set(lengths)
        for name, count in lengths.items():
            assert len(kv.block_table(name)) == (count + 3) // 4


def test_an_append_that_does_not_fit_takes_nothing() -> None:
    kv = KVCacheManager(num_blocks=3, block_size=4)
    kv.allocate("a", 8)
    assert not kv.append("a", 17)
    assert kv.num_free == 1
    assert kv.append("a", 12)
    assert kv.usage == 1.0


def test_an_allocation_beyond_the_cache_names_what_is_free() -> None:
    kv = KVCacheManager(num_blocks=3, block_size=4)
    with pytest.raises(CapacityError, match=r"4 blocks.*3 of 3 are free"):
        kv.allocate("a", 13)


def test_a_request_cannot_allocate_twice() -> None:
    kv = KVCacheManager(num_blocks=3, block_size=4)
    kv.allocate("a", 1)
    with pytest.raises(UsageError, match="'a'"):
        kv.allocate("a", 1)


def test_a_budget_holds_whole_blocks_only() -> None:
    assert blocks_in_budget(1000, bytes_per_token=10, block_size=32) == 3
    with pytest.raises(CapacityError, match="320 bytes"):
        blocks_in_budget(319, bytes_per_token=10, block_size=32)
