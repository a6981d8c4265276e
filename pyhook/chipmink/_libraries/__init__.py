# SPDX-License-Identifier: Apache-2.0
"""Reducers of libraries, one module each, registered by the names of types.

Nothing of a library is imported before one of its objects is saved.
"""

BUILT_IN: dict[str, str] = {
    name: f"chipmink._libraries.{place}"
    for name, place in {
        "_ctypes._SimpleCData": "sharedctypes:RAW",
        "_ctypes.Array": "sharedctypes:RAW",
        "_ctypes.Structure": "sharedctypes:RAW",
        "_weakrefset.WeakSet": "unordered:WEAK_SET",
        "builtins.memoryview": "memory:VIEWS",
        "concurrent.futures.Future": "futures:FUTURE",
        "cupy.ndarray": "device:CUPY",
        "distributed.client.Future": "remote:FUTURE",
        "formulaic.parser.types.term.Term": "derived:TERM",
        "immutables._map.Map": "unordered:MAPPING",
        "matplotlib.artist.Artist": "matplotlib:ARTISTS",
        "matplotlib.cbook.CallbackRegistry": "matplotlib:CALLBACKS",
        "matplotlib.transforms.TransformNode": "matplotlib:TRANSFORMS",
        "mmap.mmap": "maps:MAP",
        "multiprocessing.shared_memory.ShareableList": "shared_memory:LIST",
        "multiprocessing.shared_memory.SharedMemory": "shared_memory:SEGMENT",
        "multiprocessing.sharedctypes.SynchronizedBase": "sharedctypes:SYNCHRONIZED",
        "numba.core.registry.CPUDispatcher": "numba:DISPATCHER",
        "numba.cuda.cudadrv.devicearray.DeviceNDArray": "device:NUMBA",
        "numpy.memmap": "maps:MEMMAP",
        "numpy.ndarray": "numpy:ARRAYS",
        "pandas._libs.internals.Block": "pandas:BLOCK",
        "pandas._libs.internals.SharedBlock": "pandas:BLOCK",
        "pyrsistent._pmap.PMap": "unordered:MAPPING",
        "pyrsistent._pset.PSet": "unordered:SET",
        "pyspark.core.context.SparkContext": "remote:CONTEXT",
        "pyspark.sql.dataframe.DataFrame": "remote:TABLE",
        "pyspark.sql.session.SparkSession": "remote:SESSION",
        "ray._raylet.ObjectRef": "remote:REFERENCE",
        "scipy.spatial._ckdtree.cKDTree": "derived:TREE",
        "sklearn.feature_extraction.text._VectorizerMixin": "derived:VECTORIZER",
        "spacy.vocab.Vocab": "spacy:VOCAB",
        "sqlite3.Connection": "sqlite:CONNECTION",
        "torch.storage.TypedStorage": "torch:TYPED",
        "torch.storage.UntypedStorage": "torch:UNTYPED",
        "xarray.core.dataset.Dataset": "derived:LABELLED",
        "xarray.core.datatree.DataTree": "derived:LABELLED",
        "xarray.namedarray.core.NamedArray": "derived:LABELLED",
    }.items()
}
