# SPDX-License-Identifier: Apache-2.0
"""Reducers of libraries, one module each, registered by the names of types.

Nothing of a library is imported before one of its objects is saved.
"""

BUILT_IN: dict[str, str] = {
    name: f"chipmink._libraries.{place}"
    for name, place in {
        "_ctypes.Array": "sharedctypes:RAW",
        "_ctypes.Structure": "sharedctypes:RAW",
        "_ctypes._SimpleCData": "sharedctypes:RAW",
        "builtins.memoryview": "memory:VIEWS",
        "concurrent.futures.Future": "futures:FUTURE",
        "matplotlib.cbook.CallbackRegistry": "matplotlib:CALLBACKS",
        "mmap.mmap": "maps:MAP",
        "multiprocessing.shared_memory.ShareableList": "shared_memory:LIST",
        "multiprocessing.shared_memory.SharedMemory": "shared_memory:SEGMENT",
        "multiprocessing.sharedctypes.SynchronizedBase": "sharedctypes:SYNCHRONIZED",
        "numpy.memmap": "maps:MEMMAP",
        "numpy.ndarray": "numpy:ARRAYS",
        "sqlite3.Connection": "sqlite:CONNECTION",
        "torch.storage.TypedStorage": "torch:TYPED",
        "torch.storage.UntypedStorage": "torch:UNTYPED",
    }.items()
}
