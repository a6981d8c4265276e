# SPDX-License-Identifier: Apache-2.0
"""Which library does a docstring come from? A notebook; the text is that of installed packages."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import importlib
import inspect
import re
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

rng = np.random.default_rng(SEED)

# %% Where the text is
modules = {
    "numpy": ["numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "numpy.polynomial"],
    "scipy": ["scipy.stats", "scipy.signal", "scipy.optimize", "scipy.sparse", "scipy.special"],
    "pandas": ["pandas", "pandas.api.types", "pandas.api.extensions", "pandas.tseries.offsets"],
    "sklearn": ["sklearn.linear_model", "sklearn.ensemble", "sklearn.cluster", "sklearn.metrics"],
    "networkx": ["networkx"],
    "matplotlib": ["matplotlib.axes", "matplotlib.figure", "matplotlib.pyplot", "matplotlib.text"],
}


# %% Collect the docstrings
def docstrings(name):
    """Give the qualified names and docstrings of what a module shows."""
    module = importlib.import_module(name)
    for key in sorted(set(dir(module))):
        if key.startswith("_"):
            continue
        thing = getattr(module, key, None)
        if inspect.ismodule(thing):
            continue
        yield f"{name}.{key}", inspect.getdoc(thing) or ""
        if inspect.isclass(thing):
            for member in sorted(vars(thing)):
                if not member.startswith("_"):
                    text = inspect.getdoc(getattr(thing, member, None))
                    yield f"{name}.{key}.{member}", text or ""


rows = [
    (library, name, text)
    for library, names in modules.items()
    for module in names
    for name, text in docstrings(module)
    if len(text) > 80
]
docs = pd.DataFrame(rows, columns=["library", "name", "text"]).drop_duplicates("text")
docs = docs.sample(frac=min(1.0, SCALE), random_state=SEED).reset_index(drop=True)
docs.shape

# %% How many, how long?
docs["length"] = docs["text"].str.len()
docs.groupby("library")["length"].describe()

# %% A first plot
figure, axes = plt.subplots(figsize=(7, 4))
docs.boxplot("length", by="library", ax=axes)
axes.set_yscale("log")

# %% The names give the answer away: take them out
names = re.compile("|".join(modules) + r"|np\.|pd\.|plt\.|nx\.|sp\.", re.IGNORECASE)
docs["clean"] = docs["text"].str.replace(names, " ", regex=True).str.lower()
docs["clean"].str.len().sum()

# %% Words
words = docs["clean"].str.findall(r"[a-z]{3,}")
counts = {
    library: Counter(w for ws in group for w in ws)
    for library, group in words.groupby(docs["library"])
}
top = pd.DataFrame({library: pd.Series(count) for library, count in counts.items()}).fillna(0)
top = top[top.sum(axis=1) >= 20]
top.sum().sort_values()

# %% Which words are typical?
share = top / top.sum()
typical = {
    library: (share[library] / share.mean(axis=1)).nlargest(12).index.tolist() for library in share
}
typical

# %% Split
train, test = train_test_split(docs, test_size=0.25, random_state=SEED, stratify=docs["library"])
len(train), len(test)

# %% TF-IDF
vectorizer = TfidfVectorizer(min_df=2, max_features=20_000, sublinear_tf=True)
X_train = vectorizer.fit_transform(train["clean"])
X_test = vectorizer.transform(test["clean"])
X_train.shape, X_train.nnz

# %% Naive Bayes as a baseline
bayes = MultinomialNB(alpha=0.1).fit(X_train, train["library"])
scores = {"bayes": accuracy_score(test["library"], bayes.predict(X_test))}
scores

# %% Logistic regression
regression = LogisticRegression(C=5.0, max_iter=200).fit(X_train, train["library"])
scores["regression"] = accuracy_score(test["library"], regression.predict(X_test))
scores

# %% Fewer dimensions
svd = make_pipeline(TruncatedSVD(50, random_state=SEED), LogisticRegression(max_iter=500))
svd.fit(X_train, train["library"])
scores["svd"] = accuracy_score(test["library"], svd.predict(X_test))
points = svd[0].transform(X_test)[:, :2]

# %% See them
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
for library in modules:
    chosen = (test["library"] == library).to_numpy()
    left.scatter(points[chosen, 0], points[chosen, 1], s=4, label=library)
left.legend()

# %% What is confused?
predicted = regression.predict(X_test)
confusion = pd.DataFrame(
    confusion_matrix(test["library"], predicted),
    index=regression.classes_,
    columns=regression.classes_,
)
right.imshow(np.log1p(confusion))
confusion

# %% Look at the mistakes
test = test.assign(predicted=predicted, sure=regression.predict_proba(X_test).max(axis=1))
wrong = test[test["library"] != test["predicted"]].sort_values("sure", ascending=False)
wrong[["name", "library", "predicted", "sure"]].head(20)

# %% Most telling words of each library
vocabulary = np.array(vectorizer.get_feature_names_out())
telling = {
    library: vocabulary[np.argsort(weights)[-10:]].tolist()
    for library, weights in zip(regression.classes_, regression.coef_)
}

# %% Does it need all of the data?
curve = {}
for part in (0.1, 0.25, 0.5, 1.0):
    chosen = rng.permutation(X_train.shape[0])[: max(60, int(part * X_train.shape[0]))]
    model = MultinomialNB(alpha=0.1).fit(X_train[chosen], train["library"].iloc[chosen])
    curve[len(chosen)] = model.score(X_test, test["library"])
curve

# %% Rename a label, late
docs["library"] = docs["library"].replace({"sklearn": "scikit-learn"})
summary = docs.groupby("library").agg(texts=("name", "size"), characters=("length", "sum"))
summary
