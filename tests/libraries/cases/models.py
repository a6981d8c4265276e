# SPDX-License-Identifier: Apache-2.0
"""Statistics, PyTorch, optimisation and simulation."""

from __future__ import annotations

from typing import Any

from .table import Lazy, attributes, by, calls, labels, library, points, put, session, sets, targets

np, pd = Lazy("numpy"), Lazy("pandas")

# ---- statsmodels and its kin ---------------------------------------------------------------------

sm = Lazy("statsmodels.api")
smf = Lazy("statsmodels.formula.api")
statsmodels = library("statsmodels")


def _table() -> Any:
    table = pd.DataFrame(points(), columns=list("abcde"))
    return table.assign(y=targets(), group=np.arange(120) % 4)


def _series() -> Any:
    return pd.Series(np.cumsum(targets()), pd.date_range("2020", periods=120))


_parameters = by(lambda fit: np.asarray(fit.params), lambda fit: fit.model.endog)


def _noted(fit: Any) -> None:
    fit.model.endog = fit.model.endog + 5.0


statsmodels(
    "OLS",
    lambda: sm.OLS(targets(), points()),
    lambda m: setattr(m, "endog", m.endog + 1),
    by(lambda m: m.endog, lambda m: m.exog),
)
statsmodels(
    "RegressionResultsWrapper", lambda: sm.OLS(targets(), points()).fit(), _noted, _parameters
)
statsmodels(
    "RegressionResults of a formula",
    lambda: smf.ols("y ~ a + C(group)", _table()).fit(),
    _noted,
    _parameters,
)
statsmodels(
    "GLMResultsWrapper",
    lambda: sm.GLM(labels(), points(), sm.families.Binomial()).fit(),
    _noted,
    _parameters,
)
statsmodels(
    "LogitResults", lambda: sm.Logit(labels(), points()).fit(disp=False), _noted, _parameters
)
statsmodels(
    "ARIMAResults",
    lambda: Lazy("statsmodels.tsa.arima.model").ARIMA(_series(), order=(1, 0, 0)).fit(),
    _noted,
    by(lambda fit: fit.forecast(3), lambda fit: fit.model.endog),
)
statsmodels(
    "HoltWintersResults",
    lambda: Lazy("statsmodels.tsa.holtwinters").ExponentialSmoothing(_series(), trend="add").fit(),
    lambda fit: fit.params.update(smoothing_level=0.1),
    by(lambda fit: fit.forecast(3), lambda fit: sorted(map(str, fit.params.items()))),
)
statsmodels(
    "MixedLMResults",
    lambda: smf.mixedlm("y ~ a", _table(), groups="group").fit(),
    _noted,
    _parameters,
)
statsmodels(
    "VARResults",
    lambda: Lazy("statsmodels.tsa.api").VAR(points()).fit(1),
    lambda fit: fit.params.__setitem__((0, 0), 9.0),
    by(lambda fit: np.asarray(fit.params)),
)
statsmodels("KDEUnivariate", lambda: _fit_density(), sets("bw", 0.5), attributes("density", "bw"))
statsmodels(
    "distributions.ECDF",
    lambda: Lazy("statsmodels.distributions").ECDF(targets()),
    lambda ecdf: ecdf.y.__setitem__(3, 0.9),
    by(lambda ecdf: ecdf([0.0, 1.0]), lambda ecdf: ecdf.y),
)


def _fit_density() -> Any:
    density = sm.nonparametric.KDEUnivariate(targets())
    density.fit()
    return density


def _fit_arch() -> Any:
    model = Lazy("arch").arch_model(targets(), rescale=False)
    model.distribution = model.volatility._normal = Lazy("arch.univariate").Normal(seed=1)
    return model.fit(disp="off")


arch = library("arch")
arch(
    "ARCHModelResult",
    _fit_arch,
    lambda fit: fit._params.__setitem__(0, 9.0),
    by(lambda fit: fit._params),
)

patsy = library("patsy")
patsy(
    "DesignMatrix",
    lambda: Lazy("patsy").dmatrix("a + b", {"a": [1.0, 2.0, 3.0], "b": [3.0, 1.0, 2.0]}),
    put((0, 1), 5.0),
    broken=True,
    limitation="patsy refuses: its pickling is not written yet; keep numpy.asarray of it",
)
formulaic = library("formulaic")
formulaic(
    "Formula",
    lambda: Lazy("formulaic").Formula("y ~ a + b"),
    lambda f: Lazy("formulaic").Formula("y ~ a"),
    by(str),
)
formulaic(
    "ModelMatrix",
    lambda: Lazy("formulaic").model_matrix("a + C(group)", _table()),
    lambda matrix: matrix.__wrapped__.__setitem__("a", 0.0),
    by(lambda matrix: pd.DataFrame(matrix), lambda matrix: str(matrix.model_spec.formula)),
)
ruptures = library("ruptures")
ruptures(
    "Pelt",
    lambda: Lazy("ruptures").Pelt(min_size=5).fit(points()),
    sets("min_size", 9),
    by(lambda model: (model.predict(pen=3), model.min_size)),
)

# ---- PyTorch -------------------------------------------------------------------------------------

th = Lazy("torch")
torch = library("torch")


def _seeded(make: Any) -> Any:
    def made() -> Any:
        th.manual_seed(1)
        return make()

    return made


def _trained(optimizer: str, **options: Any) -> Any:
    def made() -> Any:
        th.manual_seed(1)
        model = th.nn.Linear(5, 2)
        step = getattr(th.optim, optimizer)(model.parameters(), **options)
        model(th.ones(3, 5)).sum().backward()
        step.step()
        return step

    return made


_state = by(lambda module: dict(module.state_dict()))


def _zero_first(module: Any) -> None:
    with th.no_grad():
        next(iter(module.parameters())).view(-1)[0] = 9.0


torch("Tensor", _seeded(lambda: th.rand(30, 20)), put((0, 0), 5.0))
torch("Tensor, bfloat16", _seeded(lambda: th.rand(30).to(th.bfloat16)), put(0, 5.0))
torch("Tensor, a view", lambda: th.arange(100.0)[::2], put(0, 5.0))
torch("Tensor, sparse", lambda: th.eye(5).to_sparse(), lambda t: t * 2, by(lambda t: t.to_dense()))
torch(
    "Tensor, quantized",
    lambda: th.quantize_per_tensor(th.arange(9.0), 0.1, 10, th.quint8),
    lambda t: th.quantize_per_tensor(th.ones(9), 0.1, 10, th.quint8),
    by(lambda t: t.dequantize()),
)
torch(
    "nn.Parameter",
    _seeded(lambda: th.nn.Parameter(th.rand(9))),
    lambda parameter: parameter.data.__setitem__(0, 5.0),
    by(lambda parameter: parameter.data, lambda parameter: parameter.requires_grad),
)
torch("nn.Linear", _seeded(lambda: th.nn.Linear(5, 2)), _zero_first, _state)
torch(
    "nn.Sequential",
    _seeded(lambda: th.nn.Sequential(th.nn.Conv2d(1, 2, 3), th.nn.BatchNorm2d(2), th.nn.Dropout())),
    _zero_first,
    _state,
)
torch("nn.LSTM", _seeded(lambda: th.nn.LSTM(5, 4, 2)), _zero_first, _state)
torch(
    "nn.TransformerEncoderLayer",
    _seeded(lambda: th.nn.TransformerEncoderLayer(8, 2, 16)),
    _zero_first,
    _state,
)
torch(
    "nn.Module of the session",
    _seeded(
        lambda: session(
            """
            import torch
            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer, self.names = torch.nn.Linear(3, 2), {"x", "y", "z"}
                def forward(self, x): return torch.relu(self.layer(x))
            value = Net()
            """
        )
    ),
    lambda net: net.names.add("w"),
    lambda a, b: _state(a.layer, b.layer) and a.names == b.names,
)
# making an optimiser imports torch._dynamo, which takes seconds
torch(
    "optim.Adam", _trained("Adam"), lambda o: o.param_groups[0].update(lr=0.5), _state, heavy=True
)
torch(
    "optim.SGD",
    _trained("SGD", lr=0.1, momentum=0.9),
    lambda o: o.param_groups[0].update(lr=0.5),
    _state,
    heavy=True,
)
torch(
    "optim.lr_scheduler.StepLR",
    lambda: th.optim.lr_scheduler.StepLR(_trained("SGD", lr=0.1)(), 5),
    sets("gamma", 0.9),
    by(lambda scheduler: scheduler.state_dict()),
    heavy=True,
)
torch(
    "utils.data.TensorDataset",
    lambda: th.utils.data.TensorDataset(th.arange(9.0), th.arange(9)),
    lambda data: data.tensors[0].__setitem__(0, 5.0),
    attributes("tensors"),
)
torch(
    "utils.data.DataLoader",
    lambda: th.utils.data.DataLoader(list(range(10)), batch_size=4),
    lambda loader: loader.dataset.append(11),
    by(list),
)
torch(
    "Generator",
    lambda: th.Generator().manual_seed(3),
    calls("manual_seed", 4),
    by(lambda g: g.get_state()),
)
torch(
    "distributions.Normal",
    lambda: th.distributions.Normal(th.zeros(3), th.ones(3)),
    lambda law: law.loc.__setitem__(0, 5.0),
    by(lambda law: law.mean, lambda law: law.stddev),
)
torch("Size", lambda: th.Size([1, 2]), lambda size: th.Size([1, 3]))
torch(
    "ScriptModule",
    lambda: th.jit.script(th.nn.Linear(2, 2)),
    _zero_first,
    broken=True,
    limitation="PyTorch refuses: keep the module that it is made from, or torch.jit.save it",
)
torch(
    "Tensor with a history",
    lambda: th.ones(3, requires_grad=True) * 2,
    lambda tensor: tensor + 1,
    by(lambda tensor: tensor.detach()),
    limitation="PyTorch saves the values, not the graph of what computed them",
)

# ---- optimisation, simulation --------------------------------------------------------------------

cp = Lazy("cvxpy")
cvxpy = library("cvxpy")


def _problem() -> Any:
    x = cp.Variable(2, name="x")
    return cp.Problem(cp.Minimize(cp.sum_squares(x - np.array([1.0, 2.0]))), [x >= 0])


def _solved() -> Any:
    problem = _problem()
    problem.solve(solver="CLARABEL")
    return problem


cvxpy(
    "Variable",
    lambda: cp.Variable(3, name="x"),
    sets("value", [1.0, 2.0, 3.0]),
    attributes("value", "shape"),
)
cvxpy(
    "Problem",
    _problem,
    lambda problem: problem.variables()[0].save_value(np.array([5.0, 6.0])),
    by(lambda problem: [v.value for v in problem.variables()], str),
)
cvxpy(
    "Problem, solved",
    _solved,
    lambda problem: problem.variables()[0].save_value(np.array([5.0, 6.0])),
    broken=True,
    limitation="holds what its solver returned, which does not pickle; keep the variables' values",
)
pulp = library("pulp")


def _program() -> Any:
    lp = Lazy("pulp")
    problem = lp.LpProblem("p", lp.LpMaximize)
    x, y = lp.LpVariable("x", 0, 4), lp.LpVariable("y", 0, 5)
    problem += x + 2 * y
    problem += x + y <= 6
    return problem


pulp("LpProblem", _program, sets("name", "other"), by(str))
simpy = library("simpy")
simpy(
    "Environment with a process",
    lambda: _environment(),
    calls("run", until=2),
    broken=True,
    limitation="its processes are generators: a frame that is running cannot be pickled",
)


def _environment() -> Any:
    environment = Lazy("simpy").Environment()

    def clock() -> Any:
        while True:
            yield environment.timeout(1)

    environment.process(clock())
    return environment


deap = library("deap")
deap(
    "tools.Logbook",
    lambda: _logbook(),
    calls("record", gen=9, best=1.0),
    by(list),
)
deap("tools.HallOfFame", lambda: _hall(), calls("clear"), by(lambda hall: [list(i) for i in hall]))


def _logbook() -> Any:
    book = Lazy("deap.tools").Logbook()
    for generation in range(9):
        book.record(gen=generation, best=generation / 2)
    return book


def _hall() -> Any:
    hall = Lazy("deap.tools").HallOfFame(3)
    people = session(
        """
        from deap import base
        class Fitness(base.Fitness):
            weights = (1.0,)
        class Person(list):
            def __init__(self, n):
                super().__init__([n, n + 1])
                self.fitness = Fitness((float(n),))
        value = [Person(n) for n in range(5)]
        """
    )
    hall.update(people)
    return hall
