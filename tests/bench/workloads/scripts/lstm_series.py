# SPDX-License-Identifier: Apache-2.0
"""An LSTM that continues time series; the data ships in statsmodels. Saved after every epoch."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import numpy as np
import statsmodels.api as sm
import torch
from torch import nn

torch.manual_seed(SEED)
torch.set_num_threads(1)

# %% The series
tables = {
    "macrodata": sm.datasets.macrodata.load_pandas().data.drop(columns=["year", "quarter"]),
    "elnino": sm.datasets.elnino.load_pandas().data.drop(columns="YEAR"),
    "sunspots": sm.datasets.sunspots.load_pandas().data[["SUNACTIVITY"]],
    "co2": sm.datasets.co2.load_pandas().data.interpolate(),
}
series = {
    f"{table}.{column}": (values - values.mean()) / values.std()
    for table, columns in tables.items()
    for column, values in columns.astype(float).items()
}
len(series), sum(map(len, series.values()))

# %% Windows
width = 24
windows = np.concatenate(
    [
        np.lib.stride_tricks.sliding_window_view(values.to_numpy(), width + 1)
        for values in series.values()
    ]
)
rng = np.random.default_rng(SEED)
windows = torch.tensor(
    rng.permutation(windows)[: int(3000 * min(SCALE, 1)) + 100], dtype=torch.float32
)
train, test = windows[: int(0.8 * len(windows))], windows[int(0.8 * len(windows)) :]


# %% Model
class Sequence(nn.Module):
    def __init__(self, hidden=51):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=2, batch_first=True)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, x, state=None):
        output, state = self.lstm(x.unsqueeze(-1), state)
        return self.linear(output).squeeze(-1), state

    @torch.no_grad()
    def forecast(self, x, steps):
        values, state = self(x)
        found = [values[:, -1:]]
        while len(found) < steps:
            values, state = self(found[-1], state)
            found.append(values[:, -1:])
        return torch.cat(found, 1)


model = Sequence()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
losses = []
forecasts = {}

# %% An epoch (x 10)
for batch in train[torch.randperm(len(train))].split(128):
    optimizer.zero_grad()
    predicted, _ = model(batch[:, :-1])
    loss = (predicted - batch[:, 1:]).pow(2).mean()
    loss.backward()
    optimizer.step()
scheduler.step()
with torch.no_grad():
    error = (model(test[:, :-1])[0] - test[:, 1:]).pow(2).mean().item()
losses.append((loss.item(), error))
forecasts[len(losses)] = model.forecast(test[:16, :-1], 36)

# %% A weighted average of forecasts
weights = torch.softmax(-torch.tensor([error for _, error in losses]) * 20, 0)
ensemble = sum(w * f for w, f in zip(weights, forecasts.values()))
