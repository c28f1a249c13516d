"""Write docs/reference/nki_versions.md from the tables: python docs/generate_versions.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from emuron.nki.earlier_forms import FORMS, Form
from emuron.nki.subset_rules import RULES, Rule
from emuron.nki.versions import ARGUMENTS_SINCE, INSTRUCTIONS_SINCE, VERSIONS

PAGE = Path(__file__).parent / "reference" / "nki_versions.md"

INTRODUCTION = f"""\
# Versions of NKI

Kernels written for NKI {VERSIONS[0]} to {VERSIONS[-1]} run as they are: what any of these versions
takes is taken. A form that later versions gave up warns (a `DeprecationWarning` at the kernel's
line, once a launch). This page is generated from the tables that the package works with.

To hold a kernel to one version:

```python
import emuron.nki as nki

with nki.strict("0.6"):  # or run_kernel(…, nki_version="0.6"),
    nki.simulate(kernel)(a, b)  # EMURON_NKI_VERSION=0.6, emuron kernel run --nki-version 0.6
```

What the version does not have is then an error that names the line, the version and the way out.

## Forms

A dash in *last* means the latest version; *deprecated* is the first version that warns.
"""

SUBSET = """
## Python that the compilers refuse

Kernels run here as ordinary Python; the compilers of NKI 0.2 to 0.6 take a part of it. On demand
the source of a kernel and of what it calls is searched for the rest:

```python
from emuron.nki.subset import check

with nki.check_subset("warn"):  # or "error"; EMURON_NKI_SUBSET=warn, --subset warn
    nki.simulate(kernel)(a, b)

check(kernel)  # the findings, without running anything
```
"""

REGISTERS = """
## Registers without data

A kernel that is only timed (`execute=False`, `--no-data`) computes nothing but what its registers
hold: if the arguments that decide it have data, the few instructions that it rests on are run.
Where they have shapes only, state it: for all registers, or by the line of the load. Of a register
that a `while` waits for, the number says how often the loop runs.

```python
with nki.assume_registers({"kernel.py:12": 4}):
    nki.run_kernel(kernel, (a, nki.ShapeDtype((1, 1), "int32")), execute=False)
```

A register whose value is neither known nor stated is an error that names its line.
"""


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the text of the page."""
    lines = [INTRODUCTION, *_table(("form", "first", "last", "deprecated", "instead"), _forms())]
    lines += ["", "## Instructions and arguments that came later", ""]
    lines += _table(("name", "first"), _later())
    lines += [
        SUBSET,
        *_table(("construct", "first", "last", "what becomes of it", "instead"), _rules()),
    ]
    return "\n".join(lines) + "\n" + REGISTERS


def _forms() -> Iterable[tuple[str, ...]]:
    def row(form: Form) -> tuple[str, ...]:
        return form.what, form.first, form.last or "–", form.deprecated or "–", form.instead or "–"

    return sorted(row(form) for form in FORMS.values())


def _later() -> Iterable[tuple[str, ...]]:
    for name, first in sorted(INSTRUCTIONS_SINCE.items()):
        yield f"`nisa.{name}`", first
    for (name, argument), first in sorted(ARGUMENTS_SINCE.items()):
        yield f"`{argument}=` of `nisa.{name}`", first


def _rules() -> Iterable[tuple[str, ...]]:
    def row(rule: Rule) -> tuple[str, ...]:
        return rule.construct, rule.first, rule.last or "–", rule.why, rule.way_out

    return sorted(row(rule) for rule in RULES.values())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


if __name__ == "__main__":
    main()
