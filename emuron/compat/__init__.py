"""Stand-ins for AWS's packages: after `import emuron.compat`, `import nki` finds emuron.

A package that is really installed always wins; `install(shadow=("nki",))`, or
EMURON_SHADOW=nki,neuronxcc in the environment, puts the stand-ins before it.
"""

from __future__ import annotations

import os

from emuron.compat.finder import SHADOW_VARIABLE, install

__all__ = ["install"]

install(shadow=[name for name in os.environ.get(SHADOW_VARIABLE, "").split(",") if name])
