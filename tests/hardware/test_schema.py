from dataclasses import dataclass
from pathlib import Path

import pytest

from emuron.errors import UsageError
from emuron.hardware.schema import build, load_document

CITATIONS = {"BOOK": "a book"}


@dataclass(frozen=True)
class Wheel:
    name: str
    spokes: int


@dataclass(frozen=True)
class Cart:
    weight_kg: float
    wheels: tuple[Wheel, ...]
    colours: tuple[tuple[str, int], ...] = ()
    horse: str | None = None


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.toml").write_text(text)


def test_a_figure_without_a_source_is_refused_by_its_path(tmp_path: Path) -> None:
    write(
        tmp_path, "cart", 'weight_kg = 3.0\n[size]\nlength_m = 2\n[sources]\nweight_kg = "BOOK 1"'
    )
    with pytest.raises(UsageError, match=r"cart\.toml: size\.length_m has no source"):
        load_document(tmp_path, "cart", CITATIONS)


@pytest.mark.parametrize("source", ["hearsay", "PAMPHLET page 3", ""])
def test_a_source_of_no_known_kind_is_refused(tmp_path: Path, source: str) -> None:
    write(tmp_path, "cart", f'weight_kg = 3.0\n[sources]\nweight_kg = "{source}"')
    with pytest.raises(UsageError, match="starts with neither a citation"):
        load_document(tmp_path, "cart", CITATIONS)


@pytest.mark.parametrize("source", ["BOOK 4", "measured: a scale", "assumed: x", "fitted: y"])
def test_citations_and_the_three_kinds_of_our_own_are_sources(tmp_path: Path, source: str) -> None:
    write(tmp_path, "cart", f'weight_kg = 3.0\n[sources]\nweight_kg = "{source}"')
    assert load_document(tmp_path, "cart", CITATIONS).sources == {"weight_kg": source}


@pytest.mark.parametrize("table", ["sources", "alternatives"])
def test_a_source_or_an_alternative_for_no_figure_is_refused(tmp_path: Path, table: str) -> None:
    entry = '"BOOK 1"' if table == "sources" else '[{ value = 1, source = "BOOK 1" }]'
    stated = '[sources]\nweight_kg = "BOOK 1"\n' if table == "alternatives" else "[sources]\n"
    write(
        tmp_path,
        "cart",
        f"weight_kg = 3.0\n{stated}{f'[{table}]' * (table != 'sources')}\n"
        f'"weight_kg" = {entry}\n"weigth_kg" = {entry}\n',
    )
    with pytest.raises(UsageError, match=r"'weigth_kg' fits no key"):
        load_document(tmp_path, "cart", CITATIONS)


def test_the_longest_pattern_that_fits_gives_the_source(tmp_path: Path) -> None:
    write(
        tmp_path,
        "cart",
        "[size]\nlength_m = 2\nwidth_m = 1\nheight_m = 1\n[sources]\n"
        '"*" = "BOOK 1"\n"size.w*" = "BOOK 2"\n"size.height_m" = "BOOK 3"',
    )
    assert load_document(tmp_path, "cart", CITATIONS).sources == {
        "size.length_m": "BOOK 1",
        "size.width_m": "BOOK 2",
        "size.height_m": "BOOK 3",
    }


def test_a_source_inside_a_table_holds_for_its_figures(tmp_path: Path) -> None:
    write(
        tmp_path,
        "cart",
        'parts = [{ price = 2, source = "BOOK 7" }]\naxle = { steel = true, source = "BOOK 8" }',
    )
    sources = load_document(tmp_path, "cart", CITATIONS).sources
    assert sources == {"parts[0].price": "BOOK 7", "axle.steel": "BOOK 8"}


def test_a_file_restates_figures_and_sources_of_the_one_it_inherits(tmp_path: Path) -> None:
    write(
        tmp_path,
        "cart",
        "[size]\nlength_m = 2\nwidth_m = 1\n[sources]\n"
        '"size.*" = "BOOK 1"\n[alternatives]\n"size.length_m" = [{value = 4, source = "BOOK 9"}]',
    )
    write(
        tmp_path,
        "wagon",
        'inherits = "cart"\n[size]\nlength_m = 5\n[sources]\n'
        '"size.length_m" = "BOOK 2"\n"size.width_m" = "assumed: as a cart"',
    )
    wagon = load_document(tmp_path, "wagon", CITATIONS)
    assert wagon.values == {"size": {"length_m": 5, "width_m": 1}}
    assert wagon.sources == {"size.length_m": "BOOK 2", "size.width_m": "assumed: as a cart"}
    assert wagon.alternatives == ()  # they were stated against the figure that is gone


def test_a_missing_or_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cart\.toml does not exist"):
        load_document(tmp_path, "cart", CITATIONS)
    write(tmp_path, "cart", "weight_kg = = 3")
    with pytest.raises(UsageError, match=r"cart\.toml is not valid TOML"):
        load_document(tmp_path, "cart", CITATIONS)


def test_build_fills_nested_tables_and_leaves_optional_keys_out() -> None:
    table = {"weight_kg": 3, "wheels": {"left": {"spokes": 8}}, "colours": {"red": 2}}
    cart = build(Cart, table, "cart")
    assert cart == Cart(3.0, (Wheel("left", 8),), (("red", 2),), None)
    assert type(cart.weight_kg) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wieght_kg": 1}, "cart: unknown key 'wieght_kg'; known keys are colours, horse"),
        ({"weight_kg": None}, "cart.weight_kg: expected float, found None"),
        ({"weight_kg": True}, "cart.weight_kg: expected float, found True"),
        ({"wheels": {"left": {}}}, "cart.wheels.left: missing key 'spokes'"),
        ({"wheels": {"left": {"spokes": 8.5}}}, "cart.wheels.left.spokes: expected int"),
        ({"wheels": 4}, "cart.wheels: expected a list or a table, found 4"),
        ({"horse": 4}, "cart.horse: expected str, found 4"),
    ],
)
def test_build_says_where_a_table_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        build(Cart, {"weight_kg": 3.0, "wheels": {}, **change}, "cart")
    assert message in str(error.value)


def test_build_names_a_missing_key() -> None:
    with pytest.raises(UsageError, match="cart: missing key 'weight_kg'"):
        build(Cart, {"wheels": {}}, "cart")
