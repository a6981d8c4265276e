"""Run by tools/demo in a process of its own: restore, and compare with what the kernel had.

The reference is a full cloudpickle of the namespace made inside the kernel, so the comparison does
not depend on Chipmink being right about itself.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import chipmink
from same import difference


def describe(value: Any) -> str:
    """Return a few words about a value."""
    shape = getattr(value, "shape", None)
    size = f" {shape[0]:,} x {shape[1]}" if shape and len(shape) == 2 else ""
    return f"{type(value).__name__}{size}"


def compare(restored: dict[str, Any], reference: dict[str, Any], names: list[str]) -> list[str]:
    """Return a line for every name whose restored value is not what the kernel had."""
    problems = [f"{name}: not restored" for name in names if name not in restored]
    # All at once, so that an object shared by two variables must be shared on both sides.
    present = [name for name in names if name in restored]
    found = difference(
        {name: restored[name] for name in present}, {name: reference[name] for name in present}
    )
    return problems + ([found] if found else [])


def main() -> int:
    """Restore what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="full pickle from the kernel")
    parser.add_argument("--session", help="restore from this session of $CHIPMINK_STORE")
    parser.add_argument("--at", type=int, help="number of the checkpoint")
    parser.add_argument("--directory", help="restore from this checkpoint directory instead")
    parser.add_argument("--names", nargs="*", help="only these variables")
    arguments = parser.parse_args()

    begun = time.perf_counter()
    if arguments.directory:
        restored = chipmink.load(arguments.directory, names=arguments.names)
        call = f"chipmink.load({arguments.directory!r})"
    else:
        with chipmink.open() as store:
            session = store.session(arguments.session)
            restored = session.load(at=arguments.at, names=arguments.names)
        call = f"session.load(at={arguments.at}, names={arguments.names})"
    seconds = time.perf_counter() - begun

    with arguments.reference.open("rb") as file:
        reference = pickle.load(file)
    names = arguments.names or list(reference)
    problems = compare(restored, reference, names)
    print(f">>> {call}")
    if arguments.names:
        for name in names:
            print(f"{name}: {describe(restored.get(name))}")
    for problem in problems:
        print(f"different from what the kernel had: {problem}")
    if problems:
        return 1
    print(f"{len(names)} of {len(names)} variables equal to the kernel's own, in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
