from collections import deque

import pytest

from emuron.errors import UsageError
from emuron.hardware.topology import Topology

SINGLE = Topology("single", 1, 1)
CHAIN = Topology("chain", 6, 6)
RING = Topology("ring", 12, 12)
BOARD = Topology("torus2d_4x4", 16, 16)
ULTRA = Topology("torus3d_4x4x4", 64, 16)
SWITCHED = Topology("switched", 144, 4)
ALL = [SINGLE, CHAIN, RING, BOARD, ULTRA, SWITCHED]
DIRECT = [SINGLE, CHAIN, RING, BOARD, ULTRA]


def walked_hops(topology: Topology, start: int) -> dict[int, int]:
    """Breadth first over the neighbours: the oracle of `hops`."""
    distance = {start: 0}
    waiting = deque([start])
    while waiting:
        chip = waiting.popleft()
        for other in topology.neighbours(chip):
            if other not in distance:
                distance[other] = distance[chip] + 1
                waiting.append(other)
    return distance


@pytest.mark.parametrize("topology", ALL, ids=lambda t: t.kind)
def test_links_go_both_ways_and_never_to_the_chip_itself(topology: Topology) -> None:
    for chip in range(topology.chips):
        neighbours = topology.neighbours(chip)
        assert chip not in neighbours
        assert len(set(neighbours)) == len(neighbours)
        assert all(chip in topology.neighbours(other) for other in neighbours)


@pytest.mark.parametrize(
    ("topology", "degree"),
    [(SINGLE, 0), (RING, 2), (BOARD, 4), (ULTRA, 6), (SWITCHED, 143)],
    ids=lambda value: getattr(value, "kind", value),
)
def test_every_chip_of_a_regular_topology_has_as_many_links(
    topology: Topology, degree: int
) -> None:
    assert {len(topology.neighbours(chip)) for chip in range(topology.chips)} == {degree}


@pytest.mark.parametrize("topology", ALL, ids=lambda t: t.kind)
def test_hops_are_the_shortest_way_over_the_links(topology: Topology) -> None:
    for start in range(0, topology.chips, 5):
        reached = walked_hops(topology, start)
        assert reached == {end: topology.hops(start, end) for end in range(topology.chips)}


def test_a_chain_ends_and_a_ring_does_not() -> None:
    assert [CHAIN.neighbours(chip) for chip in (0, 3, 5)] == [(1,), (2, 4), (4,)]
    assert RING.neighbours(0) == (1, 11)
    assert CHAIN.hops(0, 5) == 5


def test_the_board_is_numbered_row_by_row_as_the_driver_lists_it() -> None:
    # Driver table: chip = 4r + c, neighbours (r +- 1 mod 4, c) and (r, c +- 1 mod 4).
    for r in range(4):
        for c in range(4):
            expected = {4 * ((r + s) % 4) + c for s in (-1, 1)}
            expected |= {4 * r + (c + s) % 4 for s in (-1, 1)}
            assert set(BOARD.neighbours(4 * r + c)) == expected
    assert BOARD.neighbours(0) == (1, 3, 4, 12)


def test_an_ultraserver_links_equal_places_of_its_instances_in_a_ring() -> None:
    for instance in range(4):
        chip = 16 * instance + 5
        outside = {other for other in ULTRA.neighbours(chip) if ULTRA.server(other) != instance}
        assert outside == {16 * ((instance + step) % 4) + 5 for step in (-1, 1)}


@pytest.mark.parametrize("chip", [-1, 16])
def test_a_chip_outside_the_topology_is_refused(chip: int) -> None:
    with pytest.raises(UsageError, match=f"chip {chip} is not one of the 16 chips"):
        BOARD.neighbours(chip)


@pytest.mark.parametrize(
    ("kind", "chips", "per_server", "message"),
    [
        ("star", 4, 4, "'star' is not one of single, chain"),
        ("torus2d_4x4", 12, 12, "does not have 12 chips"),
        ("ring", 12, 5, "do not divide into servers of 5"),
    ],
)
def test_an_impossible_topology_is_refused(
    kind: str, chips: int, per_server: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Topology(kind, chips, per_server)


@pytest.mark.parametrize(
    ("kind", "chips", "of", "steps"),
    [
        ("ring", 12, 12, 11),
        ("ring", 12, 4, 3),
        ("chain", 6, 6, 5),
        ("torus2d_4x4", 16, 16, 6),
        ("torus2d_4x4", 16, 4, 3),
        ("torus2d_4x4", 16, 8, 4),
        ("torus2d_4x4", 16, 1, 0),
        ("single", 1, 1, 0),
    ],
)
def test_data_of_all_chips_go_along_one_axis_after_the_other(
    kind: str, chips: int, of: int, steps: int
) -> None:
    assert Topology(kind, chips, chips).gathering_steps(of) == steps
