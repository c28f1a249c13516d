"""The block table of the KV cache: which blocks each request holds, and what is free."""

from __future__ import annotations

from emuron.errors import CapacityError, UsageError

DEFAULT_BLOCK_SIZE = 32  # tokens; the block size of vLLM on Neuron


def blocks_for_tokens(num_tokens: int, block_size: int) -> int:
    """Return how many blocks hold `num_tokens` tokens."""
    return -(-num_tokens // block_size)


def blocks_in_budget(budget_bytes: int, bytes_per_token: int, block_size: int) -> int:
    """Return how many whole blocks fit in `budget_bytes`; raise CapacityError when none does."""
    bytes_per_block = bytes_per_token * block_size
    blocks = budget_bytes // bytes_per_block
    if blocks < 1:
        raise CapacityError(
            f"KV cache: one block of {block_size} tokens needs {bytes_per_block} bytes, but "
            f"{budget_bytes} bytes are left beside the weights; use more cores (--tp), a larger "
            "instance or a smaller --block-size"
        )
    return blocks


class KVCacheManager:
    """Hands out blocks of `block_size` tokens; every block is free or belongs to one request."""

    def __init__(self, num_blocks: int, block_size: int = DEFAULT_BLOCK_SIZE) -> None:
        """Start with `num_blocks` free blocks."""
        if num_blocks < 1 or block_size < 1:
            raise UsageError(
                f"KV cache: num_blocks and block_size must be positive, got {num_blocks} and "
                f"{block_size}"
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))
        self._tables: dict[str, list[int]] = {}

    @property
    def num_free(self) -> int:
        """Blocks that belong to nobody."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """The share of blocks in use, 0 to 1."""
        return 1.0 - len(self._free) / self.num_blocks

    @property
    def holders(self) -> tuple[str, ...]:
        """The requests that hold blocks, oldest first."""
        return tuple(self._tables)

    def block_table(self, request_id: str) -> list[int]:
        """Return the blocks of a request in token order (the live list: do not edit)."""
        return self._tables[request_id]

    def can_allocate(self, num_tokens: int) -> bool:
        """Whether a new request of `num_tokens` tokens fits now."""
        return blocks_for_tokens(num_tokens, self.block_size) <= len(self._free)

    def allocate(self, request_id: str, num_tokens: int) -> None:
        """Give a new request room for `num_tokens` tokens; raise CapacityError if it cannot."""
        if request_id in self._tables:
            raise UsageError(f"KV cache: request {request_id!r} already holds blocks")
        self._tables[request_id] = self._take(blocks_for_tokens(num_tokens, self.block_size))

    def append(self, request_id: str, num_tokens: int) -> bool:
        """Grow a request's room to `num_tokens` tokens; False, with nothing taken, if it cannot."""
        missing = self.missing_blocks(request_id, num_tokens)
        if missing > len(self._free):
            return False
        if missing:
            self._tables[request_id].extend(self._take(missing))
        return True

    def missing_blocks(self, request_id: str, num_tokens: int) -> int:
        """Return how many blocks a request lacks to hold `num_tokens` tokens."""
        held = len(self._tables[request_id])
        return max(0, -(-num_tokens // self.block_size) - held)

    def trim(self, request_id: str, num_tokens: int) -> None:
        """Take back the blocks of a request beyond its first `num_tokens` tokens."""
        table = self._tables[request_id]
        while len(table) > blocks_for_tokens(num_tokens, self.block_size):
            self._free.append(table.pop())

    def free(self, request_id: str) -> None:
        """Take back every block of a request; a request that holds none is no error."""
        self._free.extend(reversed(self._tables.pop(request_id, ())))

    def _take(self, count: int) -> list[int]:
        if count > len(self._free):
            raise CapacityError(
                f"KV cache: {count} blocks of {self.block_size} tokens are needed, "
                f"{len(self._free)} of {self.num_blocks} are free"
            )
        return [self._free.pop() for _ in range(count)]
