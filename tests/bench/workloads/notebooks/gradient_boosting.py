# SPDX-License-Identifier: Apache-2.0
"""Gradient boosting with a parameter search on survey data that ships in statsmodels: a notebook."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import matplotlib.pyplot as plt
import pandas as pd
import statsmodels.api as sm
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import (
    ParameterSampler,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)

# %% Load
fair = sm.datasets.fair.load_pandas()
data = fair.data
print(fair.data.shape)

# %% Target
data["affair"] = (data["affairs"] > 0).astype(int)
data["affair"].mean()

# %% Look
counts = {name: data[name].value_counts() for name in data.columns if data[name].nunique() < 20}
figure, axes = plt.subplots(2, 4, figsize=(12, 5))
for axis, (name, count) in zip(axes.flat, counts.items()):
    count.sort_index().plot.bar(ax=axis, title=name)

# %% Features
data["married_share"] = data["yrs_married"] / data["age"]
data["couple_educ"] = data["educ"] + data["occupation_husb"]
data["unhappy"] = (data["rate_marriage"] <= 2).astype("int8")
X = data.drop(columns=["affairs", "affair"])
y = data["affair"]

# %% Split
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, random_state=SEED, stratify=y
)
folds = list(StratifiedKFold(3, shuffle=True, random_state=SEED).split(X_train, y_train))

# %% Baseline
baseline = GradientBoostingClassifier(n_estimators=50, random_state=SEED).fit(X_train, y_train)
auc = {"baseline": roc_auc_score(y_test, baseline.predict_proba(X_test)[:, 1])}
auc

# %% The space of parameters
space = {
    "learning_rate": [0.03, 0.1, 0.3],
    "max_leaf_nodes": [7, 15, 31],
    "min_samples_leaf": [10, 20, 50],
    "l2_regularization": [0.0, 0.1, 1.0],
}
candidates = list(ParameterSampler(space, n_iter=40, random_state=SEED))
results = pd.DataFrame(columns=[*space, "mean", "std"])
models = []

# %% Try one candidate (x 10)
parameters = candidates[len(models)]
model = HistGradientBoostingClassifier(max_iter=40, random_state=SEED, **parameters)
tried = cross_val_score(model, X_train, y_train, cv=folds, scoring="roc_auc")
results.loc[len(results)] = {**parameters, "mean": tried.mean(), "std": tried.std()}
models.append(model.fit(X_train, y_train))

# %% The best
results["rank"] = results["mean"].rank(ascending=False)
best = models[int(results["mean"].idxmax())]
auc["best"] = roc_auc_score(y_test, best.predict_proba(X_test)[:, 1])
results.sort_values("rank")

# %% Longer
final = HistGradientBoostingClassifier(
    max_iter=150, random_state=SEED, **candidates[int(results["mean"].idxmax())]
)
final.fit(X_train, y_train)
stages = [roc_auc_score(y_test, p[:, 1]) for p in final.staged_predict_proba(X_test)]
auc["final"] = stages[-1]

# %% Plot
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
left.plot(stages)
RocCurveDisplay.from_estimator(final, X_test, y_test, ax=right)

# %% Importance
importance = permutation_importance(final, X_test, y_test, n_repeats=3, random_state=SEED)
ranking = pd.Series(importance.importances_mean, index=X.columns).sort_values()

# %% Without the least useful
fewer = X.columns.difference(ranking.index[:2])
final.fit(X_train[fewer], y_train)
auc["fewer"] = roc_auc_score(y_test, final.predict_proba(X_test[fewer])[:, 1])

# %% Predictions
test = X_test.assign(truth=y_test, risk=final.predict_proba(X_test[fewer])[:, 1])
deciles = test.groupby(pd.qcut(test["risk"], 10, duplicates="drop"), observed=True)["truth"].agg(
    ["mean", "size"]
)
deciles
