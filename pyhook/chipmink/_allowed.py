# SPDX-License-Identifier: Apache-2.0
"""What a cell may do without changing anything: the data of the code checker, and nothing else.

A *kind* is a set of types that behave alike. ``TYPES`` names the types of each kind, as
``module:name``; a value belongs to a kind if its exact type is one of them. ``ATTRIBUTES``,
``STRUCTURE`` and ``METHODS`` say, by kind, what may be read and called, and what kinds the result
has; ``FUNCTIONS`` says the same of functions, by module. What is not named here is refused.

An entry is ``name``, or ``name/n`` when more or fewer than ``POSITIONAL`` arguments may be given by
position (the next one would be an ``out`` or the like), or ``name!k`` when argument ``k`` must be
given by name. Results are kinds, one or more, separated by spaces.

What earns an entry: it changes no argument and no state that a variable can hold, and calls nothing
but methods of its arguments. Random numbers from the global generators are out for that reason.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """Split a list of names."""
    return frozenset(text.split())


# Kinds that stand for several others.
UNIONS = {
    "scalar": "number text bytes none npscalar time",
    "arrayish": "array npscalar",
    "sliced": "frame series scalar",
    "reduced": "series scalar",
    "tabular": "frame series",
    "labelled": "frame series index",
    "listlike": "array extension index",
    "data": (
        "number text bytes none list tuple dict set range slice array npscalar time frame series "
        "index extension dtype sparse"
    ),
}

TYPES = {
    "number": "builtins:int builtins:float builtins:complex builtins:bool",
    "text": "builtins:str",
    "bytes": "builtins:bytes",
    "none": "builtins:NoneType builtins:ellipsis",
    "list": "builtins:list",
    "tuple": "builtins:tuple",
    "dict": "builtins:dict",
    "set": "builtins:set builtins:frozenset",
    "range": "builtins:range",
    "slice": "builtins:slice",
    "array": "numpy:ndarray",
    "npscalar": (
        "numpy:bool numpy:bool_ numpy:int8 numpy:int16 numpy:int32 numpy:int64 numpy:longlong "
        "numpy:uint8 numpy:uint16 numpy:uint32 numpy:uint64 numpy:ulonglong numpy:float16 "
        "numpy:float32 numpy:float64 numpy:longdouble numpy:complex64 numpy:complex128 numpy:str_ "
        "numpy:bytes_ numpy:datetime64 numpy:timedelta64"
    ),
    "dtype": (
        "numpy.dtypes:BoolDType numpy.dtypes:Int8DType numpy.dtypes:Int16DType "
        "numpy.dtypes:Int32DType numpy.dtypes:Int64DType numpy.dtypes:UInt8DType "
        "numpy.dtypes:UInt16DType numpy.dtypes:UInt32DType numpy.dtypes:UInt64DType "
        "numpy.dtypes:Float16DType numpy.dtypes:Float32DType numpy.dtypes:Float64DType "
        "numpy.dtypes:Complex64DType numpy.dtypes:Complex128DType numpy.dtypes:ObjectDType "
        "numpy.dtypes:StrDType numpy.dtypes:BytesDType numpy.dtypes:DateTime64DType "
        "numpy.dtypes:TimeDelta64DType pandas:StringDtype pandas:BooleanDtype pandas:Int8Dtype "
        "pandas:Int16Dtype pandas:Int32Dtype pandas:Int64Dtype pandas:UInt8Dtype "
        "pandas:UInt16Dtype pandas:UInt32Dtype pandas:UInt64Dtype pandas:Float32Dtype "
        "pandas:Float64Dtype pandas:DatetimeTZDtype pandas:PeriodDtype"
    ),
    "time": (
        "pandas:Timestamp pandas:Timedelta pandas:Period pandas._libs.tslibs.nattype:NaTType "
        "pandas._libs.missing:NAType pandas.api.typing:NaTType pandas.api.typing:NAType "
        "datetime:datetime datetime:date datetime:time datetime:timedelta decimal:Decimal"
    ),
    "frame": "pandas:DataFrame",
    "series": "pandas:Series",
    "index": (
        "pandas:Index pandas:RangeIndex pandas:MultiIndex pandas:DatetimeIndex "
        "pandas:TimedeltaIndex pandas:PeriodIndex pandas:CategoricalIndex pandas:IntervalIndex"
    ),
    "extension": (
        "pandas:Categorical pandas.arrays:Categorical pandas.arrays:DatetimeArray "
        "pandas.arrays:TimedeltaArray pandas.arrays:PeriodArray pandas.arrays:StringArray "
        "pandas.arrays:ArrowStringArray pandas.arrays:BooleanArray pandas.arrays:IntegerArray "
        "pandas.arrays:FloatingArray"
    ),
    "frame_groups": "pandas.api.typing:DataFrameGroupBy",
    "series_groups": "pandas.api.typing:SeriesGroupBy",
    "window": (
        "pandas.api.typing:Rolling pandas.api.typing:Expanding "
        "pandas.api.typing:ExponentialMovingWindow"
    ),
    "strings": "pandas.core.strings.accessor:StringMethods",
    "dates": (
        "pandas.core.indexes.accessors:DatetimeProperties "
        "pandas.core.indexes.accessors:TimedeltaProperties "
        "pandas.core.indexes.accessors:PeriodProperties"
    ),
    "indexer": (
        "pandas.core.indexing:_LocIndexer pandas.core.indexing:_iLocIndexer "
        "pandas.core.indexing:_AtIndexer pandas.core.indexing:_iAtIndexer"
    ),
    "plotter": "pandas.plotting:PlotAccessor",
    "sparse": (
        "scipy.sparse:csr_matrix scipy.sparse:csc_matrix scipy.sparse:coo_matrix "
        "scipy.sparse:csr_array scipy.sparse:csc_array scipy.sparse:coo_array"
    ),
    # Not those of sklearn.neighbors: their trees count the calls.
    "model": (
        "sklearn.linear_model:LinearRegression sklearn.linear_model:LogisticRegression "
        "sklearn.linear_model:Ridge sklearn.linear_model:RidgeClassifier "
        "sklearn.linear_model:Lasso sklearn.linear_model:ElasticNet "
        "sklearn.linear_model:SGDClassifier sklearn.linear_model:SGDRegressor "
        "sklearn.naive_bayes:GaussianNB sklearn.naive_bayes:MultinomialNB "
        "sklearn.naive_bayes:BernoulliNB sklearn.tree:DecisionTreeClassifier "
        "sklearn.tree:DecisionTreeRegressor sklearn.ensemble:RandomForestClassifier "
        "sklearn.ensemble:RandomForestRegressor sklearn.ensemble:ExtraTreesClassifier "
        "sklearn.ensemble:ExtraTreesRegressor "
        "sklearn.svm:SVC sklearn.svm:SVR "
        "sklearn.svm:LinearSVC sklearn.svm:LinearSVR sklearn.cluster:KMeans "
        "sklearn.decomposition:PCA sklearn.decomposition:TruncatedSVD "
        "sklearn.preprocessing:StandardScaler sklearn.preprocessing:MinMaxScaler "
        "sklearn.preprocessing:LabelEncoder sklearn.preprocessing:OneHotEncoder "
        "sklearn.preprocessing:LabelBinarizer sklearn.tree:ExtraTreeClassifier "
        "sklearn.tree:ExtraTreeRegressor "
        "sklearn.pipeline:Pipeline"
    ),
    # Compiled parts of fitted models that hold nothing but numbers.
    "fitted": ("sklearn.tree._tree:Tree numpy.random.mtrand:RandomState"),
}

# Of these only what the cell itself has made is of a kind: live ones may belong to anything.
MADE = {"axes": "matplotlib.axes:Axes"}

# Kinds whose instances hold what they are made of in __dict__, where a look must follow.
IN_DICT = frozenset({"model"})

# Read without looking at the elements; what was doubtful about them stays so in the result.
STRUCTURE = {
    "frame": {
        "shape": "tuple",
        "size ndim empty": "number",
        "columns index": "index",
        "dtypes": "series",
        "loc iloc at iat": "indexer",
    },
    "series": {
        "shape": "tuple",
        "size ndim empty": "number",
        "dtype": "dtype",
        "index": "index",
        "loc iloc at iat": "indexer",
    },
    "array": {"shape strides": "tuple", "size ndim nbytes itemsize": "number", "dtype": "dtype"},
}

# Called without looking at the elements: the first and last rows of what there was.
ENDS = {"frame": {"head tail": "frame"}, "series": {"head tail": "series"}}

_DATE_FIELDS = (
    "year month day hour minute second microsecond nanosecond dayofweek dayofyear weekday quarter "
    "days seconds microseconds nanoseconds days_in_month is_leap_year"
)

ATTRIBUTES = {
    "number": {"real imag numerator denominator": "number"},
    "range": {"start stop step": "number"},
    "slice": {"start stop step": "scalar"},
    "array": {"T real imag flat": "array"},
    "npscalar": {
        "shape": "tuple",
        "size ndim nbytes itemsize": "number",
        "dtype": "dtype",
        "T real imag": "arrayish",
    },
    "dtype": {"name kind str": "text", "itemsize": "number"},
    "time": {_DATE_FIELDS: "number", "value": "number"},
    "frame": {"T": "frame", "values": "array", "axes": "list", "plot": "plotter"},
    "series": {
        "T": "series",
        "values array": "listlike",
        "name": "scalar tuple",
        "nbytes hasnans is_unique is_monotonic_increasing is_monotonic_decreasing": "number",
        "str": "strings",
        "dt": "dates",
        "plot": "plotter",
    },
    "index": {
        "shape": "tuple",
        "size ndim empty nbytes nlevels hasnans is_unique has_duplicates "
        "is_monotonic_increasing is_monotonic_decreasing": "number",
        "dtype": "dtype",
        "values array": "listlike",
        "name": "scalar tuple",
        "names levels codes": "list",
        "T": "index",
        "str": "strings",
        _DATE_FIELDS: "index array",
    },
    "extension": {"shape": "tuple", "size ndim nbytes": "number", "dtype": "dtype"},
    "frame_groups": {"ngroups": "number"},
    "series_groups": {"ngroups": "number"},
    "dates": {_DATE_FIELDS: "series", "date time": "series"},
    "sparse": {"shape": "tuple", "nnz ndim": "number", "dtype": "dtype", "data indices": "array"},
}

_REDUCTIONS = (
    "count sum mean median min max std var sem skew kurt prod product nunique any all idxmin idxmax"
)
_GROUP_REDUCTIONS = (
    "count sum mean median min max std var sem prod nunique any all first last idxmin idxmax"
)
_CUMULATIVE = "cumsum cumprod cummin cummax diff pct_change shift rank ffill bfill"

METHODS = {
    "number": {
        "bit_length bit_count conjugate is_integer as_integer_ratio hex": "number text tuple"
    },
    "text": {
        "capitalize casefold center count endswith expandtabs find format/9 index isalnum "
        "isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
        "istitle isupper join ljust lower lstrip removeprefix removesuffix replace/3 "
        "rfind rindex rjust rsplit rstrip split splitlines startswith strip swapcase "
        "title translate upper zfill": "text number list tuple bytes"
    },
    "bytes": {
        "hex startswith endswith count find split strip lower upper": "text bytes number list"
    },
    "list": {"count index/3": "number", "copy/0": "list"},
    "tuple": {"count index/3": "number"},
    "range": {"count index": "number"},
    "dict": {"get": "data", "items/0 keys/0 values/0": "iterator", "copy/0": "dict"},
    "set": {
        "union intersection difference symmetric_difference copy/0": "set",
        "issubset issuperset isdisjoint": "number",
    },
    "array": {
        "sum/1 mean/1 std/1 var/1 min/1 max/1 prod/1 any/1 all/1 ptp/1 argmin/1 argmax/1 cumsum/1 "
        "cumprod/1 round/1 clip/2 dot/1 trace/1": "arrayish",
        "astype/1 copy/0 flatten/0 ravel/0 reshape/4 transpose/4 swapaxes squeeze/1 repeat "
        "argsort/1 nonzero/0 diagonal searchsorted/1 conj/0 conjugate/0": "array tuple npscalar",
        "tolist/0 item/2": "data",
    },
    "npscalar": {
        "sum/1 mean/1 std/1 var/1 min/1 max/1 round/1 clip/2 astype/1 reshape/4": "arrayish",
        "item/0 tolist/0": "scalar",
    },
    "time": {
        "strftime isoformat/0 day_name month_name": "text",
        "date/0 time/0 floor ceil round normalize total_seconds/0 timestamp/0 weekday/0 "
        "to_pydatetime/0 to_timestamp to_period tz_localize tz_convert": "time number",
    },
    "frame": {
        "describe/0 abs/0 round clip isna/0 isnull/0 notna/0 notnull/0 astype/1 copy/1 "
        "select_dtypes drop_duplicates/1 dropna/0 fillna/1 sort_values/1 sort_index/0 set_index/1 "
        "reset_index/1 rename/1 replace drop/1 nlargest nsmallest corr/0 cov/0 pivot/0 "
        "melt/2 stack/1 unstack merge/1 join/1 isin/1 reindex/1 filter/1 transpose/0 to_frame "
        "sample!random_state explode/1 assign/0 query/1 add sub mul div eq ne lt le gt ge "
        + _CUMULATIVE: "frame series",
        _REDUCTIONS + " mode quantile/1": "frame series scalar",
        "duplicated/1 squeeze/0 value_counts/1 memory_usage corrwith/1": "series scalar frame",
        "get/1 xs/1": "sliced",
        "to_dict/1 to_numpy/1 to_string/0 to_csv/0 to_json/0 to_markdown/0": "data",
        "info/0": "none",
        "keys/0": "index",
        "items/0 itertuples/0 iterrows/0": "iterator",
        "groupby/1": "frame_groups",
        "rolling/1 expanding/0 ewm/0": "window",
    },
    "series": {
        "abs/0 round/1 clip/2 isna/0 isnull/0 notna/0 notnull/0 astype/1 copy/1 drop_duplicates/0 "
        "dropna/0 fillna/1 sort_values/0 sort_index/0 rename/1 replace/2 drop/1 nlargest nsmallest "
        "unstack isin/1 between reindex/1 value_counts mode map/1 add sub mul div eq ne lt le gt "
        "ge duplicated/0 sample!random_state explode/0 " + _CUMULATIVE: "series frame",
        _REDUCTIONS + " quantile/1 corr/1 cov/1 autocorr dot/1 describe/0 item/0 squeeze/0": (
            "series scalar array"
        ),
        "unique/0 to_numpy/1": "listlike",
        "to_list/0 tolist/0": "list",
        "to_dict/0": "dict",
        "to_frame/1 reset_index/0": "frame series",
        "to_string/0 to_json/0": "text",
        "get": "data",
        "keys/0": "index",
        "items/0": "iterator",
        "groupby/1": "series_groups",
        "rolling/1 expanding/0 ewm/0": "window",
    },
    "index": {
        "tolist/0 to_list/0": "list",
        "unique/0 sort_values/0 isin/1 isna/0 notna/0 to_numpy/0 copy/0 astype/1 "
        "get_level_values/1 difference/1 intersection/1 union/1 drop_duplicates/0 to_series/0 "
        "to_frame/0 mean/0 std/0 round/1 "
        "value_counts/0 duplicated/0 strftime/1 day_name/0 month_name/0": (
            "index array series frame"
        ),
        "min/0 max/0 nunique/0 get_loc/1": "scalar array slice",
    },
    "extension": {
        "tolist/0 to_numpy/0 isna/0 copy/0 astype/1 unique/0": "list array extension",
        "mean/0 std/0 sum/0 min/0 max/0": "scalar",
    },
    "frame_groups": {
        _GROUP_REDUCTIONS + " size/0 describe/0 head/1 tail/1 nth/1 value_counts/0 corr/0 cumsum/0 "
        "cumcount/0 ngroup/0 quantile/1 rank/0 shift/1 diff/1 agg/1 aggregate/1 transform/1": (
            "frame series"
        )
    },
    "series_groups": {
        _GROUP_REDUCTIONS + " size/0 describe/0 head/1 tail/1 nth/1 value_counts/0 cumsum/0 "
        "cumcount/0 ngroup/0 quantile/1 rank/0 shift/1 diff/1 unique/0 nlargest/1 nsmallest/1 "
        "agg/1 aggregate/1 transform/1": "series frame"
    },
    "window": {"count/0 sum/0 mean/0 median/0 min/0 max/0 std/0 var/0 quantile/1": "tabular"},
    "strings": {
        "capitalize casefold cat/1 center contains count decode encode endswith extract extractall "
        "find findall get get_dummies isalnum isalpha isdigit islower isnumeric isspace isupper "
        "join len ljust lower lstrip match fullmatch pad removeprefix removesuffix repeat replace "
        "rfind rjust rsplit rstrip slice split startswith strip swapcase title upper "
        "zfill": "labelled array"
    },
    "dates": {
        "strftime/1 floor/1 ceil/1 round/1 normalize/0 day_name/0 month_name/0 to_period/1 "
        "total_seconds/0 tz_localize/1 tz_convert/1 isocalendar/0": "series frame"
    },
    "sparse": {"toarray/0 todense/0": "array", "sum/1 mean/1 max/1 min/1": "arrayish"},
    "model": {
        "predict/1 predict_proba/1 predict_log_proba/1 decision_function/1 transform/1 "
        "inverse_transform/1": "arrayish tabular sparse list",
        "score": "number npscalar",
        "get_params": "dict",
    },
    "axes": {
        "set_title set_xlabel set_ylabel set_xlim set_ylim set_xticks set_yticks grid legend "
        "tick_params/0 set_xscale set_yscale axhline/1 axvline/1": "artist"
    },
    # Plots of pandas, on a figure of their own.
    "plotter": {
        "__call__/3 line bar barh hist box kde density area pie scatter hexbin": "axes artist",
    },
}

# Methods that name what they compute by strings: "mean" is called as .mean().
NAMING = frozenset({"agg", "aggregate", "transform"})
NAMED = words(_GROUP_REDUCTIONS + " size skew kurt cumsum cumprod cummin cummax")

# Methods and attributes that draw on figures of their own, or on the current one.
PLOTTING = {"frame": {"hist/1 boxplot/1": "axes artist"}, "series": {"hist/0": "axes artist"}}

_UFUNCS = (
    "absolute abs add arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil conj "
    "conjugate cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs float_power floor "
    "floor_divide fmax fmin fmod gcd greater greater_equal hypot isfinite isinf isnan lcm less "
    "less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor "
    "maximum minimum mod multiply negative not_equal positive power rad2deg radians reciprocal "
    "remainder rint sign signbit sin sinh sqrt square subtract tan tanh true_divide trunc"
)

# By module; "." stands for what has no __module__ to tell (compiled functions of builtins).
FUNCTIONS = {
    "builtins": {
        "abs all any ascii bin callable chr divmod format hash hex len max/9 min/9 oct ord pow/3 "
        "round sorted/1 sum id isinstance repr": "data",
        "print/99": "none",
    },
    "math": {
        "acos acosh asin asinh atan atan2 atanh ceil comb copysign cos cosh degrees dist erf erfc "
        "exp expm1 fabs factorial floor fmod frexp fsum gamma gcd/9 hypot/9 isclose isfinite isinf "
        "isnan isqrt lcm/9 ldexp lgamma log log10 log1p log2 modf perm pow prod radians remainder "
        "sin sinh sqrt tan tanh trunc cbrt exp2": "number tuple"
    },
    "statistics": {
        "fmean mean median median_low median_high mode multimode pstdev pvariance quantiles stdev "
        "variance": "scalar list"
    },
    "time": {"time/0 perf_counter/0 monotonic/0 time_ns/0": "number"},
    "posixpath": {"join/9 basename/1 dirname/1": "text"},
    "genericpath": {"exists/1 isfile/1 isdir/1 getsize/1": "number"},
    "posix": {"getcwd/0 listdir/1 getpid/0": "text list number"},
    "sys": {"getsizeof/1": "number"},
    "numpy": {
        "sum mean std var median min max amin amax ptp prod any all argmin argmax argsort sort "
        "cumsum cumprod nansum nanmean nanstd nanvar nanmin nanmax nanmedian diff gradient dot "
        "vdot inner outer matmul round around clip/3 percentile quantile nanpercentile trace "
        "average corrcoef cov histogram bincount digitize interp/3 unique where/3 nonzero "
        "flatnonzero count_nonzero searchsorted isclose allclose array_equal isin isreal iscomplex "
        "concatenate stack vstack hstack dstack column_stack split array_split reshape ravel "
        "transpose swapaxes moveaxis/3 squeeze expand_dims flip fliplr flipud roll/3 rot90 tile "
        "repeat broadcast_to array/2 asarray/2 zeros ones empty full/3 zeros_like/1 ones_like/1 "
        "full_like/2 eye/3 identity diag diagonal/3 tril triu arange/3 linspace/3 logspace/3 "
        "geomspace/3 shape ndim size meshgrid/3 cross kron polyfit/3 polyval trapezoid "
        "iscomplexobj isscalar result_type/9 " + _UFUNCS: "data"
    },
    "numpy.linalg": {"norm det inv pinv eig eigh svd qr solve cholesky matrix_rank cond": "data"},
    "numpy.fft": {"fft ifft rfft irfft fftfreq fftshift ifftshift": "data"},
    "pandas": {
        "concat/1 merge/3 crosstab cut/2 qcut/2 isna isnull notna notnull get_dummies/1 melt/1 "
        "date_range/3 period_range/3 timedelta_range/3 read_csv/1 to_datetime/1 to_numeric/1 "
        "to_timedelta/1 unique factorize/1": "data"
    },
    "seaborn": {
        "histplot/1 kdeplot/1 ecdfplot/1 scatterplot/1 lineplot/1 barplot/1 countplot/1 boxplot/1 "
        "violinplot/1 boxenplot/1 pointplot/1 regplot/1 residplot/1 heatmap/1": "axes",
        "displot/1 relplot/1 pairplot/1 jointplot/1 lmplot/1": "artist",
    },
    "matplotlib.pyplot": {
        "gca/0": "axes",
        "annotate/3 axhline/3 axis/1 axvline/3 bar/2 barh/2 boxplot/1 colorbar/0 contour/3 "
        "contourf/3 errorbar/3 figure/0 fill_between/3 grid hexbin/2 hist/2 hlines/3 imshow/1 "
        "legend/2 loglog/3 pcolormesh/3 pie/2 plot/3 scatter/3 semilogx/3 semilogy/3 show/0 "
        "stackplot/9 stem/2 step/3 suptitle/1 text/3 tick_params/0 tight_layout/0 title/1 "
        "violinplot/1 vlines/3 xlabel/1 xlim/2 xscale/1 xticks/2 ylabel/1 ylim/2 yscale/1 "
        "yticks/2": "artist",
    },
    "IPython.core.display_functions": {"display/9": "none"},
}

# Modules and kinds that draw on the current figure: nothing changes as long as there is none yet.
DRAWING = frozenset({"seaborn", "matplotlib.pyplot", "plotter"})

# Functions that show what they are given.
SHOWING = frozenset({"print", "display"})

# Types that may be called; what is made is new.
MAKERS = {
    "builtins:int builtins:float builtins:complex builtins:bool": "number",
    "builtins:str": "text",
    "builtins:list": "list",
    "builtins:tuple": "tuple",
    "builtins:set builtins:frozenset": "set",
    "builtins:range": "range",
    "builtins:slice": "slice",
    "builtins:dict": "dict",
    "builtins:enumerate builtins:reversed builtins:zip": "iterator",
    "pandas:DataFrame": "frame",
    "pandas:Series": "series",
    "pandas:Index": "index",
    "pandas:Timestamp pandas:Timedelta": "time",
    "datetime:date datetime:datetime datetime:timedelta": "time",
    "numpy:float64 numpy:float32 numpy:int64 numpy:int32": "arrayish",
}
MAKER_POSITIONAL = 9

POSITIONAL = 2

# What makes a function change its arguments, or write somewhere. None and False are harmless.
# Where copy= is given, it must be True.
DENIED_KEYWORDS = frozenset(
    {
        *("inplace", "out", "overwrite_input", "overwrite_a", "overwrite_b", "buf", "file"),
        *("path_or_buf", "ax", "cax", "backend", "func", "aggfunc", "estimator"),
    }
)

# ---- what bounds the names that a cell can reach

# Libraries that keep nothing of their arguments in their own state, and call back only what they
# are given: a call reaches its arguments. (Pyplot's figures are looked at separately.)
CONFINED = words(
    """
    abc array ast base64 bisect bz2 calendar cmath collections colorsys contextlib copy csv
    dataclasses datetime decimal difflib enum fractions functools genericpath glob gzip hashlib
    heapq html itertools json keyword locale lzma math numbers operator os pathlib platform posix
    posixpath pprint random re reprlib secrets shutil statistics string stringprep struct textwrap
    time typing unicodedata urllib uuid warnings zipfile zlib zoneinfo __future__ _operator _random
    _collections_abc _io io _functools _heapq _bisect _statistics _struct _datetime _decimal
    _collections _csv _json
    numpy pandas scipy sklearn seaborn matplotlib networkx dateutil tqdm
    """
)

# Those whose classes are written in Python: instances are what their __dict__ and slots hold.
IN_PYTHON = words(
    """
    abc collections contextlib dataclasses enum fractions networkx numbers numpy pandas pathlib
    random scipy sklearn statistics string tqdm types typing uuid
    """
)

# Compiled types that hold nothing but numbers, text and the like.
OPAQUE = words(
    """
    builtins:bytearray collections:_tuplegetter _collections:_tuplegetter re:Pattern
    _io:StringIO _io:BytesIO
    _random:Random datetime:timezone zoneinfo:ZoneInfo decimal:Context pathlib:PosixPath
    numpy.random.mtrand:RandomState numpy.random._generator:Generator
    numpy.random._pcg64:PCG64 numpy.random._mt19937:MT19937 numpy.random._philox:Philox
    numpy.random._sfc64:SFC64 numpy.random.bit_generator:SeedSequence numpy.dtypes:VoidDType
    sklearn.tree._tree:Tree sklearn._loss._loss:CyHalfBinomialLoss
    sklearn._loss._loss:CyHalfMultinomialLoss sklearn._loss._loss:CyHalfSquaredError
    """
)

# Kinds whose classes the session may have given methods of its own.
PATCHABLE = ("frame", "series", "index", "frame_groups", "series_groups", "window", "array")

# What is harmless of a module that is not confined, or is no function.
HARMLESS = {
    "os": words("environ name sep"),
    "matplotlib": words("rcParams"),
    "pandas": words("options NA NaT"),
    "numpy": words("newaxis s_ r_ c_"),
    "sys": words(
        "version version_info platform executable maxsize byteorder float_info getrecursionlimit "
        "setrecursionlimit getsizeof"
    ),
}

# Names by which code gets hold of other code's variables.
INTROSPECTIVE = words(
    """
    __globals__ __builtins__ __closure__ __code__ __func__ __self__ __wrapped__ __subclasses__
    __getattribute__ __traceback__ __main__ __loader__ __spec__ __import__ cell_contents f_back
    f_globals f_locals gi_frame cr_frame ag_frame tb_frame gi_yieldfrom modules user_ns
    user_global_ns _getframe get_objects get_referrers get_referents currentframe mro __mro__
    exc_info last_value last_exc last_traceback settrace setprofile displayhook excepthook eval exec
    query globals locals vars getattr setattr import_module get_type_hints attrgetter
    read_pickle read_hdf allow_pickle
    """
)

# Builtins through which names are reached that the code does not show.
REVEALING = words(
    """
    __import__ breakpoint compile delattr dir eval exec exit get_ipython getattr globals hasattr
    help input locals quit setattr vars
    """
)
