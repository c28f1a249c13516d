"""Print the lines of each package and of its tests, and every file beyond the soft limit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOFT_LIMIT_LINES = 400


def lines_by_package(top: Path) -> Counter[str]:
    """Count the Python lines below `top` by first folder; files in `top` itself go to '.'."""
    counts: Counter[str] = Counter()
    for path in top.rglob("*.py"):
        parts = path.relative_to(top).parts
        counts[parts[0] if len(parts) > 1 else "."] += count_lines(path)
    return counts


def count_lines(path: Path) -> int:
    """Return the number of lines of a text file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    """Print the table and the list."""
    code, tests = lines_by_package(ROOT / "emuron"), lines_by_package(ROOT / "tests")
    print(f"{'package':<14}{'code':>8}{'tests':>8}")
    for name in sorted({*code, *tests}):
        print(f"{name:<14}{code[name]:>8}{tests[name]:>8}")
    print(f"{'all':<14}{code.total():>8}{tests.total():>8}")
    sizes = {
        path: count_lines(path)
        for top in ("emuron", "tests")
        for path in ROOT.glob(f"{top}/**/*.py")
    }
    long = {path: lines for path, lines in sizes.items() if lines > SOFT_LIMIT_LINES}
    for path, lines in sorted(long.items(), key=lambda item: -item[1]):
        print(f"over {SOFT_LIMIT_LINES}: {lines} {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
