import json

import pytest

from emuron.hardware.catalog import chip, chips, instance, instances
from emuron.hardware.chip import Chip
from emuron.hardware.instance import Instance
from emuron.hardware.record import figures, to_record


@pytest.mark.parametrize("entry", [*chips(), *instances()], ids=lambda entry: entry.name)
def test_records_survive_json(entry: Chip | Instance) -> None:
    record = to_record(entry)
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_chip_record_holds_every_figure_by_name() -> None:
    record = to_record(chip("trn2"))
    assert record["hbm_gb_per_s"] == 2900
    assert record["peaks_tflops"]["bfloat16"] == 667
    assert record["core"]["engines"]["tensor"]["clock_ghz"] == 2.4
    assert record["core"]["timing"]["throttle"]["ramp_us"] == 3
    assert record["sources"]["hbm_bytes"] == "HW trainium2: 96 GiB"


def test_an_instance_record_adds_totals_and_neighbours() -> None:
    record = to_record(instance("inf2.24xlarge"))
    assert (record["chip"], record["cores"], record["hbm_gb_per_s"]) == ("inferentia2", 12, 4920)
    assert record["neighbours"] == [[1], [0, 2], [1, 3], [2, 4], [3, 5], [4]]
    assert record["prices"][0]["first"] == "2023-09-28"


def test_figures_stand_beside_their_sources() -> None:
    rows = {path: (value, source) for path, value, source in figures(chip("inf2"))}
    assert rows["hbm_gb_per_s"] == (820, "A2 820 GB/s")
    paths = [path for path, _, _ in figures(instance("trn2-ultraserver"))]
    assert "topology.kind" in paths
    assert "topology.chips_per_server" in paths
