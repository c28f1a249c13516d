"""`nki.compiler.frontend`: kernels become programs by being run without data."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emuron.compat.compiled import TracedKernel
from emuron.nki.kernel import Kernel
from emuron.nki.recording import record_kernel


class NKIFrontend:
    """Records kernels. AWS has one frontend that parses Python and one that runs it; here both
    run it.
    """

    def compile(
        self,
        func: Callable[..., Any],
        *,
        inputs: Mapping[str, Any],
        target: str | None = None,
        lnc: int = 1,
        artifacts_dir: str | None = None,
        dump_python_ast: bool = False,
        output_names: Sequence[str] | None = None,
    ) -> TracedKernel:
        """Record a kernel on `lnc` physical cores; arrays among `inputs` count by shape and dtype.

        `artifacts_dir` receives each core's program as text, and with `dump_python_ast` the
        kernel's source. Raises what the kernel raises.
        """
        kernel = func if isinstance(func, Kernel) else Kernel(func)
        recording = record_kernel(kernel[lnc], (), inputs, target, execute=False)
        traced = TracedKernel.of(kernel.__name__, recording, output_names)
        if artifacts_dir is not None:
            folder = Path(artifacts_dir)
            folder.mkdir(parents=True, exist_ok=True)
            for core, program in enumerate(recording.programs):
                text = program.to_text()
                (folder / f"{traced.name}.core{core}.txt").write_text(text, encoding="utf-8")
            if dump_python_ast:
                source = textwrap.dedent(inspect.getsource(kernel.func))
                (folder / f"{traced.name}.py").write_text(source, encoding="utf-8")
        return traced


class ParserFrontend(NKIFrontend):
    """The frontend of NKI 0.2 to 0.6."""


class TracerFrontend(NKIFrontend):
    """The frontend of NKI 0.7."""
