"""The names of the scheduling policies, and what a policy must do."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeVar

from emuron.errors import UnknownNameError
from emuron.serving import policies
from emuron.serving.sequence import StepPlan

if TYPE_CHECKING:
    from emuron.serving.scheduler import Scheduler


class Policy(Protocol):
    """Decides what one step does, and moves sequences between the scheduler's queues for it."""

    def plan(self, scheduler: Scheduler, max_steps: int) -> StepPlan | None:
        """Return the next step with its blocks allocated, or None when nothing can run."""


P = TypeVar("P", bound=Policy)

_MARK = "policy_name"


def policy(name: str) -> Callable[[type[P]], type[P]]:
    """Mark a class as the scheduling policy `name`."""

    def mark(cls: type[P]) -> type[P]:
        setattr(cls, _MARK, name)
        return cls

    return mark


def known_policies() -> Mapping[str, Callable[[], Policy]]:
    """Return every marked class of this folder by its name."""
    found: dict[str, Callable[[], Policy]] = {}
    for entry in pkgutil.iter_modules(policies.__path__, f"{policies.__name__}."):
        found.update(_marked(importlib.import_module(entry.name)))
    return found


def _marked(module: ModuleType) -> dict[str, Callable[[], Policy]]:
    classes = (item for item in vars(module).values() if isinstance(item, type))
    return {vars(cls)[_MARK]: cls for cls in classes if _MARK in vars(cls)}


def make_policy(name: str) -> Policy:
    """Return a new policy of that name; raise UnknownNameError when there is none."""
    known = known_policies()
    if name not in known:
        raise UnknownNameError("scheduling policy", name, known)
    return known[name]()
