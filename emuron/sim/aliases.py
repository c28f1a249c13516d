"""Tensors that the user placed on the same bytes: which share memory, and where in it they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.sim.footprints import Column, Rectangles

Extent = tuple[int, int, int, int]  # partitions from, to; bytes from, to


def extent(tensor: Tensor) -> Extent:
    """Return the partitions and bytes of a placed tensor; HBM is one partition."""
    if isinstance(tensor.address, tuple):
        partition, byte = tensor.address
        return partition, partition + tensor.shape[0], byte, byte + tensor.partition_bytes
    byte = tensor.address or 0
    return 0, 1, byte, byte + tensor.nbytes


def clusters(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the groups of placed tensors that overlap, directly or through each other."""
    by_region: dict[MemoryRegion, dict[Extent, list[Tensor]]] = {}
    for tensor in tensors:
        by_region.setdefault(tensor.buffer, {}).setdefault(extent(tensor), []).append(tensor)
    groups = [
        [tensor for own in together for tensor in local[own]]
        for local in by_region.values()
        for together in _clusters(list(local))
    ]
    return [group for group in groups if len(group) > 1]


def _clusters(extents: list[Extent]) -> list[list[Extent]]:
    """Return the extents of one memory in groups that overlap, by a sweep over its bytes."""
    leader = {own: own for own in extents}

    def root(own: Extent) -> Extent:
        while leader[own] != own:
            leader[own] = own = leader[leader[own]]
        return own

    active: list[Extent] = []
    for own in sorted(extents, key=lambda found: found[2]):
        active = [other for other in active if other[3] > own[2]]
        for other in active:
            if other[0] < own[1] and own[0] < other[1]:
                leader[root(other)] = root(own)
        active.append(own)
    groups: dict[Extent, list[Extent]] = {}
    for own in extents:
        groups.setdefault(root(own), []).append(own)
    return list(groups.values())


class Spaces:
    """What the accesses of each tensor are compared in: its own bytes, or memory that it shares.

    `number` gives the space of each tensor; tensors that overlap have one, and their rectangles
    are moved to their place in it.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.number: Column = np.arange(len(tensors))
        self._row = np.zeros(len(tensors), np.int64)
        self._byte = np.zeros(len(tensors), np.int64)
        self._flat = np.zeros(len(tensors), np.int64)  # pitch of tensors in HBM that share bytes
        numbers = {tensor: number for number, tensor in enumerate(tensors)}
        placed = [t for t in tensors if t.aliases and t.address is not None]
        shared = clusters(placed)
        self._shares = bool(shared)
        for group in shared:
            space = min(numbers[tensor] for tensor in group)
            for tensor in group:
                number = numbers[tensor]
                self.number[number] = space
                self._row[number], _, self._byte[number], _ = extent(tensor)
                if not tensor.buffer.is_on_chip:
                    self._flat[number] = max(1, tensor.shape[-1] * tensor.dtype.itemsize)

    def moved(self, tensor: Column, touched: Rectangles) -> Rectangles:
        """Return rectangles of tensors as rectangles of their spaces."""
        if not self._shares:
            return touched
        row, row_end, byte, byte_end = touched
        pitch = self._flat[tensor]
        flat = pitch > 0
        byte = np.where(flat, row * pitch + byte, byte) + self._byte[tensor]
        byte_end = np.where(flat, (row_end - 1) * pitch + byte_end, byte_end) + self._byte[tensor]
        row = np.where(flat, 0, row) + self._row[tensor]
        row_end = np.where(flat, 1, row_end + self._row[tensor])
        return Rectangles(row, row_end, byte, byte_end)
