# SPDX-License-Identifier: Apache-2.0
"""scikit-learn and what is built on it; trees and boosting."""

from __future__ import annotations

from typing import Any

from .table import (
    Lazy,
    attributes,
    by,
    calls,
    fitted,
    labels,
    library,
    points,
    predicts,
    session,
    sets,
    targets,
    transforms,
)

np = Lazy("numpy")
sk = Lazy("sklearn")
sklearn = library("scikit-learn", "sklearn")


def _bump(name: str) -> Any:
    """Change the first number of a fitted array."""

    def change(model: Any) -> None:
        getattr(model, name).flat[0] += 1000.0

    return change


sklearn(
    "linear_model.LinearRegression",
    fitted(lambda: sk.linear_model.LinearRegression(), targets),
    _bump("coef_"),
    predicts,
)
sklearn(
    "linear_model.LogisticRegression",
    fitted(lambda: sk.linear_model.LogisticRegression()),
    _bump("coef_"),
    predicts,
)
sklearn(
    "ensemble.RandomForestClassifier",
    fitted(lambda: sk.ensemble.RandomForestClassifier(8, random_state=1)),
    lambda model: model.estimators_.pop() and None,
    by(lambda model: model.predict_proba(points())),
)
sklearn(
    "ensemble.GradientBoostingRegressor",
    fitted(lambda: sk.ensemble.GradientBoostingRegressor(n_estimators=8, random_state=1), targets),
    sets("learning_rate", 0.5),
    predicts,
)
sklearn(
    "ensemble.HistGradientBoostingClassifier",
    fitted(lambda: sk.ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=1)),
    _bump("_baseline_prediction"),
    by(lambda model: model.predict_proba(points())),
)
sklearn(
    "ensemble.IsolationForest",
    fitted(lambda: sk.ensemble.IsolationForest(n_estimators=8, random_state=1), None),
    sets("offset_", 0.3),
    predicts,
)
sklearn(
    "tree.DecisionTreeRegressor",
    fitted(lambda: sk.tree.DecisionTreeRegressor(max_depth=4, random_state=1), targets),
    lambda model: model.tree_.value.__setitem__(slice(None), 5.0),
    predicts,
)
sklearn("svm.SVC", fitted(lambda: sk.svm.SVC()), _bump("dual_coef_"), attributes("dual_coef_"))
sklearn(
    "cluster.KMeans",
    fitted(lambda: sk.cluster.KMeans(3, n_init=2, random_state=1), None),
    _bump("cluster_centers_"),
    predicts,
)
sklearn(
    "decomposition.PCA", fitted(lambda: sk.decomposition.PCA(2), None), _bump("mean_"), transforms
)
sklearn(
    "decomposition.NMF",
    lambda: sk.decomposition.NMF(2, random_state=1, max_iter=50).fit(np.abs(points())),
    _bump("components_"),
    attributes("components_"),
)
sklearn(
    "preprocessing.StandardScaler",
    fitted(lambda: sk.preprocessing.StandardScaler(), None),
    _bump("mean_"),
    transforms,
)
sklearn(
    "preprocessing.OneHotEncoder",
    lambda: sk.preprocessing.OneHotEncoder().fit([["a", 1], ["b", 2]]),
    sets("drop_idx_", [1]),
    by(lambda encoder: (encoder.transform([["b", 1]]).toarray().tolist(), encoder.drop_idx_)),
)
sklearn(
    "pipeline.Pipeline",
    fitted(
        lambda: sk.pipeline.make_pipeline(
            sk.preprocessing.FunctionTransformer(session("def value(x): return x * 2")),
            sk.preprocessing.StandardScaler(),
            sk.linear_model.LogisticRegression(),
        )
    ),
    lambda model: _bump("coef_")(model[-1]),
    predicts,
)
sklearn(
    "compose.ColumnTransformer",
    fitted(
        lambda: sk.compose.ColumnTransformer(
            [("scale", sk.preprocessing.StandardScaler(), [0, 1]), ("keep", "passthrough", [2])]
        ),
        None,
    ),
    lambda model: _bump("mean_")(model.named_transformers_["scale"]),
    transforms,
)
sklearn(
    "model_selection.GridSearchCV",
    fitted(
        lambda: sk.model_selection.GridSearchCV(
            sk.tree.DecisionTreeClassifier(random_state=1), {"max_depth": [2, 3]}, cv=2
        )
    ),
    sets("best_score_", 0.0),
    by(lambda search: (search.predict(points()), search.best_score_, search.best_params_)),
)
sklearn(
    "neighbors.KNeighborsClassifier",
    fitted(lambda: sk.neighbors.KNeighborsClassifier(3)),
    sets("n_neighbors", 5),
    by(lambda model: model.predict_proba(points())),
)
sklearn(
    "neighbors.KDTree",
    lambda: sk.neighbors.KDTree(points()),
    lambda tree: sk.neighbors.KDTree(points()[1:]),
    by(lambda tree: tree.query(points()[:5], 3)),
)
sklearn(
    "naive_bayes.GaussianNB",
    fitted(lambda: sk.naive_bayes.GaussianNB()),
    _bump("theta_"),
    by(lambda model: model.predict_proba(points())),
)
sklearn(
    "neural_network.MLPClassifier",
    fitted(lambda: sk.neural_network.MLPClassifier((4,), max_iter=20, tol=1.0, random_state=1)),
    lambda model: model.coefs_[0].__setitem__((0, 0), 9.0),
    by(lambda model: model.predict_proba(points())),
)
sklearn(
    "gaussian_process.GaussianProcessRegressor",
    fitted(lambda: sk.gaussian_process.GaussianProcessRegressor(optimizer=None), targets),
    _bump("alpha_"),
    predicts,
)
sklearn(
    "feature_extraction.text.TfidfVectorizer",
    lambda: sk.feature_extraction.text.TfidfVectorizer(stop_words="english").fit(
        ["the cat sat", "the dog ran home", "a cat and a dog"]
    ),
    lambda model: model.vocabulary_.update(new=0),
    by(lambda model: (model.vocabulary_, model.idf_)),
)
sklearn("utils.Bunch", lambda: sk.datasets.load_iris(), sets("filename", "new"), by(dict))

imblearn = library("imbalanced-learn", "imblearn")
imblearn(
    "over_sampling.SMOTE",
    lambda: Lazy("imblearn.over_sampling").SMOTE(random_state=3),
    sets("k_neighbors", 2),
    by(lambda smote: smote.fit_resample(points(), labels())),
)
imblearn(
    "ensemble.BalancedRandomForestClassifier",
    fitted(
        lambda: Lazy("imblearn.ensemble").BalancedRandomForestClassifier(
            5, random_state=1, sampling_strategy="all", replacement=True, bootstrap=False
        )
    ),
    lambda model: model.estimators_.pop() and None,
    by(lambda model: model.predict_proba(points())),
)

encoders = library("category_encoders")
encoders(
    "TargetEncoder",
    lambda: (
        Lazy("category_encoders").TargetEncoder().fit([["a"], ["b"], ["a"], ["b"]], [1, 0, 1, 1])
    ),
    sets("smoothing", 5.0),
    by(lambda encoder: encoder.transform([["a"], ["b"]]), lambda encoder: encoder.smoothing),
)

mlxtend = library("mlxtend")
mlxtend(
    "classifier.StackingClassifier",
    fitted(
        lambda: Lazy("mlxtend.classifier").StackingClassifier(
            [sk.naive_bayes.GaussianNB(), sk.tree.DecisionTreeClassifier(random_state=1)],
            sk.linear_model.LogisticRegression(),
        )
    ),
    lambda model: _bump("coef_")(model.meta_clf_),
    predicts,
)

hdbscan = library("hdbscan")
hdbscan(
    "HDBSCAN",
    lambda: Lazy("hdbscan").HDBSCAN(min_cluster_size=4, core_dist_n_jobs=1).fit(points().copy()),
    _bump("probabilities_"),
    attributes("labels_", "probabilities_"),
)

umap = library("umap-learn", "umap", heavy=True)
umap(
    "UMAP",
    fitted(lambda: Lazy("umap").UMAP(n_epochs=5, random_state=1, init="random", n_jobs=1), None),
    _bump("embedding_"),
    attributes("embedding_"),
)

# ---- boosting ------------------------------------------------------------------------------------

lgb = Lazy("lightgbm")
lightgbm = library("lightgbm")
_quiet = {"verbose": -1, "num_threads": 1, "seed": 1}
lightgbm(
    "Booster",
    lambda: lgb.train(_quiet, lgb.Dataset(points(), targets()), 5),
    calls("set_leaf_output", 0, 0, 5.0),
    predicts,
)
lightgbm(
    "LGBMClassifier",
    fitted(lambda: lgb.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1)),
    lambda model: model.booster_.set_leaf_output(0, 0, 5.0) and None,
    by(lambda model: model.predict_proba(points())),
)
lightgbm(
    "Dataset",
    lambda: lgb.Dataset(points(), targets(), free_raw_data=False),
    sets("params", {"max_bin": 7}),
    attributes("data", "label", "params"),
)

xgb = Lazy("xgboost")
xgboost = library("xgboost-cpu", "xgboost")
xgboost(
    "Booster",
    lambda: xgb.train({"nthread": 1, "seed": 1}, xgb.DMatrix(points(), targets()), 5),
    calls("set_attr", note="new"),
    by(
        lambda booster: booster.predict(xgb.DMatrix(points())),
        lambda booster: booster.attributes(),
    ),
)
xgboost(
    "XGBClassifier",
    fitted(lambda: xgb.XGBClassifier(n_estimators=5, n_jobs=1)),
    lambda model: model.get_booster().set_attr(note="new"),
    by(
        lambda model: model.predict_proba(points()),
        lambda model: model.get_booster().attributes(),
    ),
)
xgboost(
    "DMatrix",
    lambda: xgb.DMatrix(points(), targets()),
    lambda matrix: matrix.set_label(labels()),
    broken=True,
    limitation="XGBoost gives no way to pickle it; keep the arrays that it is made from",
)

cat = Lazy("catboost")
catboost = library("catboost")


def _catboost(kind: str) -> Any:
    return lambda: getattr(cat, kind)(
        iterations=5,
        depth=3,
        verbose=False,
        thread_count=1,
        random_seed=1,
        allow_writing_files=False,
    )


catboost(
    "CatBoostClassifier",
    fitted(_catboost("CatBoostClassifier")),
    calls("shrink", 3),
    by(lambda model: model.predict_proba(points())),
)
catboost(
    "CatBoostRegressor",
    fitted(_catboost("CatBoostRegressor"), targets),
    calls("shrink", 3),
    predicts,
)
catboost(
    "Pool",
    lambda: cat.Pool(points(), targets()),
    calls("set_weight", [1.0] * 120),
    broken=True,
    limitation="CatBoost gives no way to pickle it; keep the arrays that it is made from",
)

skorch = library("skorch", "skorch", "torch")


def _skorch() -> Any:
    torch = Lazy("torch")
    torch.manual_seed(1)
    net = Lazy("skorch").NeuralNetRegressor(
        torch.nn.Linear, module__in_features=5, module__out_features=1, max_epochs=2, verbose=0
    )
    return net.fit(points().astype("f4"), targets().astype("f4")[:, None])


skorch(
    "NeuralNetRegressor",
    _skorch,
    sets("verbose", 1),
    by(lambda net: (net.predict(points().astype("f4")), net.verbose)),
)

optuna = library("optuna")


def _study() -> Any:
    opt = Lazy("optuna")
    opt.logging.set_verbosity(opt.logging.ERROR)
    study = opt.create_study(study_name="s", sampler=opt.samplers.RandomSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=5)
    return study


optuna(
    "Study",
    _study,
    calls("set_user_attr", "k", "v"),
    by(lambda study: (study.best_value, study.best_params, study.user_attrs)),
)
optuna(
    "distributions.FloatDistribution",
    lambda: Lazy("optuna.distributions").FloatDistribution(0.0, 1.0),
    sets("high", 2.0),
)
