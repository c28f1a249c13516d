"""The chips and instances there are, by name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, TypeVar

from emuron.errors import UnknownNameError, UsageError
from emuron.hardware.chip import Chip
from emuron.hardware.core import NeuronCore
from emuron.hardware.instance import HostSpec, Instance
from emuron.hardware.schema import Document, Table, build, load_document, read_toml
from emuron.hardware.topology import Topology

T = TypeVar("T")

COMMON = "common"  # the file of a folder that the others inherit; it describes nothing by itself

# Keys of an instance that its Topology is made of, and the fields they become.
TOPOLOGY_PATHS = MappingProxyType(
    {"topology": "topology.kind", "servers": "topology.chips_per_server"}
)


def core_for(target: str | NeuronCore | Chip | Instance) -> NeuronCore:
    """Return the NeuronCore of a target: "trn1", "inf2", "gen3", "v3", a chip or an instance.

    Raises UnknownNameError with the closest names.
    """
    if isinstance(target, NeuronCore):
        return target
    if isinstance(target, Chip):
        return target.core
    if isinstance(target, Instance):
        return target.chip.core
    named = _core_names() | {name: chip.core for name, chip in _chip_names().items()}
    named |= {entry.name: entry.chip.core for entry in instances()}
    return _lookup("target", target, named)


def chip(name: str) -> Chip:
    """Return the chip called `name` ("inferentia2" or, for short, "inf2")."""
    return _lookup("chip", name, _chip_names())


def instance(name: str) -> Instance:
    """Return the instance called `name`, as "inf2.xlarge"."""
    return _lookup("instance", name, {entry.name: entry for entry in instances()})


def chips() -> tuple[Chip, ...]:
    """Return every chip, oldest first."""
    return _all_chips()


def instances(family: str | None = None) -> tuple[Instance, ...]:
    """Return every instance, or those of one `family` ("inf2"), smallest first."""
    if family is None:
        return _all_instances()
    found = tuple(entry for entry in _all_instances() if entry.family == family.lower())
    if not found:
        raise UnknownNameError("family", family, {entry.family for entry in _all_instances()})
    return found


@functools.cache
def citations() -> Mapping[str, str]:
    """Return what the short names of sources stand for."""
    return read_toml(data_folder(), "citations")


def data_folder() -> Traversable:
    """Return the folder of the hardware data files."""
    return files("emuron.hardware") / "data"


def _lookup(kind: str, name: str, named: Mapping[str, T]) -> T:
    try:
        return named[name.strip().lower()]
    except KeyError:
        raise UnknownNameError(kind, name, named) from None


def _documents(folder: str) -> tuple[Document, ...]:
    place = data_folder() / folder
    names = sorted(
        entry.name.removesuffix(".toml")
        for entry in place.iterdir()
        if entry.name.endswith(".toml")
    )
    return tuple(load_document(place, name, citations()) for name in names if name != COMMON)


@functools.cache
def _cores() -> Mapping[str, NeuronCore]:
    cores = [
        build(NeuronCore, document.values, f"cores/{document.name}.toml", **_notes(document))
        for document in _documents("cores")
    ]
    return {core.version: core for core in cores}


def _core_names() -> dict[str, NeuronCore]:
    return {name: core for core in _cores().values() for name in (core.version, *core.aliases)}


@functools.cache
def _all_chips() -> tuple[Chip, ...]:
    loaded = [_chip(document) for document in _documents("chips")]
    return tuple(sorted(loaded, key=lambda entry: (entry.core.version, entry.name)))


def _chip(document: Document) -> Chip:
    where = f"chips/{document.name}.toml"
    values = dict(document.values)
    core = _required(values, "core", where)
    if core not in _cores():
        raise UsageError(f"{where}: core {core!r} is none of {', '.join(_cores())}")
    return build(Chip, values, where, core=_cores()[core], **_notes(document))


def _chip_names() -> dict[str, Chip]:
    return {name: entry for entry in chips() for name in (entry.name, *entry.aliases)}


@functools.cache
def _all_instances() -> tuple[Instance, ...]:
    hosts = load_document(data_folder(), "host", citations())
    loaded = [
        _instance(name, table, document, hosts)
        for document in _documents("instances")
        for name, table in document.values.items()
    ]
    return tuple(sorted(loaded, key=lambda entry: (entry.chip.core.version, entry.family)))


def _instance(name: str, table: Table, document: Document, hosts: Document) -> Instance:
    where = f"instances/{document.name}.toml: {name}"
    values = dict(table)
    kind = _required(values, "topology", where)
    count = values.get("chips", 1)
    topology = Topology(kind, count, count // values.pop("servers", 1))
    family = document.name
    host, host_sources = _host(family, hosts)
    alternatives = tuple(
        replace(note, path=note.path.removeprefix(f"{name}."))
        for note in document.alternatives
        if note.path.startswith(f"{name}.")
    )
    sources = _below(name, document.sources) | host_sources
    return build(
        Instance,
        values,
        where,
        name=name,
        family=family,
        chip=chip(_required(values, "chip", where)),
        topology=topology,
        host=host,
        sources=tuple(sources.items()),
        alternatives=alternatives,
    )


def _host(family: str, hosts: Document) -> tuple[HostSpec, dict[str, str]]:
    """Return the host costs of `family` (over those of any family) and their sources."""
    values = {**hosts.values["any"], **hosts.values.get(family, {})}
    sources = _below("any", hosts.sources) | _below(family, hosts.sources)
    host = build(HostSpec, values, f"host.toml: {family}")
    return host, {f"host.{key}": source for key, source in sources.items()}


def _required(values: dict[str, Any], key: str, where: str) -> str:
    try:
        return str(values.pop(key))
    except KeyError:
        raise UsageError(f"{where}: missing key {key!r}") from None


def _below(name: str, sources: Mapping[str, str]) -> dict[str, str]:
    prefix = f"{name}."
    below = {
        path.removeprefix(prefix): sources[path] for path in sources if path.startswith(prefix)
    }
    return {TOPOLOGY_PATHS.get(path, path): source for path, source in below.items()}


def _notes(document: Document) -> dict[str, object]:
    return {"sources": tuple(document.sources.items()), "alternatives": document.alternatives}
