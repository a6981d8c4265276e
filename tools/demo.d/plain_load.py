"""Run by tools/demo with ``python -I -S``: load a file with pickle, where there is no Chipmink.

Usage: plain_load.py LIBRARIES FILE

LIBRARIES is a directory of links to the installed packages, Chipmink aside; it is all that the
interpreter has beside the standard library.
"""

import pickle
import sys


def main() -> int:
    """Load and describe."""
    libraries, path = sys.argv[1:]
    sys.path.append(libraries)
    try:
        import chipmink  # noqa: F401
    except ModuleNotFoundError as error:
        print(f">>> import chipmink\nModuleNotFoundError: {error}")
    else:
        print("chipmink can be imported here: this would prove nothing", file=sys.stderr)
        return 1
    with open(path, "rb") as file:
        value = pickle.load(file)
    print(f'>>> pickle.load(open("{path.rsplit("/", 1)[-1]}", "rb"))')
    print(f"{type(value).__module__}.{type(value).__qualname__}, shape {value.shape}")
    print(value.head(3).to_string(max_cols=7))
    return 0


if __name__ == "__main__":
    sys.exit(main())
