# SPDX-License-Identifier: Apache-2.0
"""Plots and pictures."""

from __future__ import annotations

from typing import Any

from .table import Lazy, attributes, by, calls, library, points, put, rng, sets

np, pd = Lazy("numpy"), Lazy("pandas")


def _table() -> Any:
    return pd.DataFrame(points(), columns=list("abcde")).assign(kind=list("xy") * 60)


# ---- matplotlib, seaborn -------------------------------------------------------------------------


class _Plotting(Lazy):
    """A module that draws with matplotlib: without a screen, and without keeping figures open."""

    def __getattr__(self, attribute: str) -> Any:
        plt = Lazy("matplotlib.pyplot")
        plt.switch_backend("agg")
        plt.close("all")
        return super().__getattr__(attribute)


plt = _Plotting("matplotlib.pyplot")
matplotlib = library("matplotlib")


def _figure() -> Any:
    figure, axes = plt.subplots(2, 2)
    axes[0, 0].plot(range(100), [i**2 for i in range(100)], label="squares")
    axes[0, 0].legend()
    axes[0, 1].hist(range(100))
    axes[1, 0].scatter([1, 2], [3, 4], c=[5, 6])
    axes[1, 1].imshow([[1, 2], [3, 4]])
    return figure


def _image(figure: Any) -> Any:
    figure = getattr(figure, "figure", figure)
    canvas = Lazy("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


matplotlib("figure.Figure", _figure, calls("suptitle", "new"), by(_image))
matplotlib("axes.Axes", lambda: _figure().axes[0], calls("set_title", "new"), by(_image))
matplotlib(
    "lines.Line2D",
    lambda: Lazy("matplotlib.lines").Line2D([1, 2], [3, 4], color="red"),
    calls("set_color", "blue"),
    by(lambda line: (line.get_xydata(), line.get_color())),
)
matplotlib(
    "patches.Rectangle",
    lambda: Lazy("matplotlib.patches").Rectangle((0, 0), 1, 2),
    calls("set_width", 5),
    by(lambda patch: patch.get_bbox().bounds),
)
matplotlib(
    "colors.ListedColormap",
    lambda: Lazy("matplotlib.colors").ListedColormap(["red", "green", "blue"]),
    sets("name", "new"),
    by(lambda cmap: (cmap(0.5), cmap.name)),
)
matplotlib(
    "colors.Normalize",
    lambda: Lazy("matplotlib.colors").Normalize(0, 5),
    sets("vmax", 9),
    attributes("vmin", "vmax"),
)
matplotlib(
    "transforms.Affine2D",
    lambda: Lazy("matplotlib.transforms").Affine2D().rotate(1),
    calls("translate", 1, 2),
    by(lambda transform: transform.get_matrix()),
)

sns = _Plotting("seaborn")
seaborn = library("seaborn", heavy=True)
seaborn(
    "FacetGrid",
    lambda: sns.FacetGrid(_table(), col="kind").map(sns.histplot, "a", bins=5),
    calls("set_axis_labels", "new", "labels"),
    by(lambda grid: _image(grid.figure)),
)
seaborn(
    "JointGrid",
    lambda: sns.jointplot(_table(), x="a", y="b"),
    calls("set_axis_labels", "new", "labels"),
    by(lambda grid: _image(grid.figure)),
)
seaborn(
    "PairGrid",
    lambda: sns.PairGrid(_table(), vars=["a", "b"]).map(sns.scatterplot),
    lambda grid: grid.figure.suptitle("new") and None,
    by(lambda grid: _image(grid.figure)),
)
seaborn(
    "matrix.ClusterGrid",
    lambda: sns.clustermap(points()[:12]),
    lambda grid: grid.figure.suptitle("new") and None,
    by(lambda grid: _image(grid.figure)),
)
seaborn(
    "objects.Plot",
    lambda: Lazy("seaborn.objects").Plot(_table(), x="a", y="b").add(Lazy("seaborn.objects").Dot()),
    lambda plot: plot.label(title="new"),
    by(lambda plot: plot._repr_png_()[0]),
)

# ---- plots for browsers --------------------------------------------------------------------------

go = Lazy("plotly.graph_objects")
plotly = library("plotly")
_json = lambda a, b: bool(a == b)  # noqa: E731
plotly(
    "graph_objects.Figure",
    lambda: go.Figure(go.Scatter(x=[1, 2], y=[3, 4])),
    calls("update_layout", title="new"),
    _json,
)
plotly(
    "express",
    lambda: Lazy("plotly.express").scatter(_table(), x="a", y="b", color="kind"),
    calls("update_layout", title="new"),
    _json,
)
plotly("graph_objects.Scatter", lambda: go.Scatter(x=[1, 2], y=[3, 4]), sets("mode", "lines"))
plotly("graph_objects.Layout", lambda: go.Layout(title="t"), sets("height", 100))

bk = Lazy("bokeh.plotting")
bokeh = library("bokeh")


def _bokeh() -> Any:
    figure = bk.figure(title="t")
    figure.scatter([1, 2], [3, 4])
    return figure


bokeh(
    "plotting.figure",
    _bokeh,
    lambda figure: setattr(figure.title, "text", "new"),
    by(lambda figure: figure.title.text),
    broken=True,
    limitation="Bokeh's own pickles do not load; keep bokeh.embed.json_item of it",
)
bokeh(
    "models.ColumnDataSource",
    lambda: Lazy("bokeh.models").ColumnDataSource({"x": [1, 2], "y": [3, 4]}),
    lambda source: source.data.update(x=[5, 6]),
    by(lambda source: dict(source.data)),
    broken=True,
    limitation="Bokeh's own pickles do not load; keep .data, as a dict",
)
bokeh(
    "models.Range1d",
    lambda: Lazy("bokeh.models").Range1d(0, 5),
    sets("end", 9),
    attributes("start", "end"),
)

alt = Lazy("altair")
altair = library("altair")
_spec = by(lambda chart: chart.to_dict())


def _chart() -> Any:
    return alt.Chart(_table()).mark_point().encode(x="a:Q", y="b:Q", color="kind:N")


altair("Chart", _chart, sets("title", "new"), _spec)
altair("LayerChart", lambda: _chart() + _chart().mark_line(), sets("title", "new"), _spec)

great_tables = library("great-tables", "great_tables")
great_tables(
    "GT",
    lambda: Lazy("great_tables").GT(_table().head(3), id="t").tab_header("title"),
    lambda table: table.tab_header("new"),
    by(lambda table: table.as_raw_html()),
)

widgets = library("ipywidgets")
widgets(
    "IntSlider",
    lambda: Lazy("ipywidgets").IntSlider(3),
    sets("value", 5),
    attributes("value", "min", "max"),
    limitation="its values; what is loaded is not what a notebook shows, but a new one to be shown",
)

# ---- pictures ------------------------------------------------------------------------------------

pil = Lazy("PIL.Image")
pillow = library("pillow", "PIL")


def _pixels() -> Any:
    return (rng().random((40, 50, 3)) * 255).astype("u1")


pillow("Image.Image, RGB", lambda: pil.fromarray(_pixels()), calls("putpixel", (1, 2), (3, 4, 5)))
pillow(
    "Image.Image, palette",
    lambda: pil.fromarray(_pixels()).quantize(16),
    calls("putpixel", (1, 2), 3),
)
pillow(
    "ImageFont.FreeTypeFont",
    lambda: Lazy("PIL.ImageFont").load_default(12),
    lambda font: Lazy("PIL.ImageFont").load_default(14),
    by(lambda font: (font.getname(), font.size)),
    broken=True,
    limitation="the built-in font is a file in memory; one from a path is saved",
)

ski = Lazy("skimage")
skimage = library("scikit-image", "skimage")
skimage(
    "transform.AffineTransform",
    lambda: ski.transform.AffineTransform(scale=(2, 3), rotation=0.5),
    lambda transform: transform.params.__setitem__((0, 2), 9.0),
    by(lambda transform: transform.params),
)
skimage(
    "transform.ThinPlateSplineTransform",
    lambda: ski.transform.ThinPlateSplineTransform.from_estimate(
        np.array([[0.0, 0], [0, 5], [5, 0], [5, 5]]), np.array([[1.0, 0], [0, 5], [5, 1], [5, 6]])
    ),
    lambda spline: spline._spline_mappings.__setitem__((0, 0), 9.0),
    by(lambda spline: spline(np.array([[1.0, 2.0]]))),
)
skimage(
    "measure.RegionProperties",
    lambda: ski.measure.regionprops(np.kron(np.eye(3, dtype=int), np.ones((4, 4), dtype=int)))[0],
    sets("label", 9),
    attributes("area", "label", "bbox"),
)
skimage(
    "util.ImageCollection",
    lambda: ski.io.concatenate_images([_pixels(), _pixels()]),
    put((0, 0, 0, 0), 7),
)

cv = Lazy("cv2")
opencv = library("opencv-python-headless", "cv2")
opencv("resized image", lambda: cv.resize(_pixels(), (20, 10)), put((0, 0, 0), 7))
opencv(
    "KeyPoint",
    lambda: cv.KeyPoint(1.0, 2.0, 3.0),
    sets("angle", 5.0),
    by(lambda point: (point.pt, point.size, point.angle)),
    broken=True,
    limitation="OpenCV gives no way to pickle it; keep .pt, .size and .angle",
)
opencv(
    "UMat",
    lambda: cv.UMat(_pixels()),
    calls("get"),
    broken=True,
    limitation="OpenCV gives no way to pickle it; keep .get() of it",
)

wordcloud = library("wordcloud")
wordcloud(
    "WordCloud",
    lambda: (
        Lazy("wordcloud")
        .WordCloud(random_state=1, width=60, height=40, scale=2)
        .generate("one two two three three three")
    ),
    sets("background_color", "white"),
    by(lambda cloud: cloud.words_, lambda cloud: cloud.background_color),
)
