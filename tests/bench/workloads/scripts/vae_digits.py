# SPDX-License-Identifier: Apache-2.0
"""A variational autoencoder on scikit-learn's digits, saved after every epoch."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

torch.manual_seed(SEED)
torch.set_num_threads(1)

# %% Data
pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 16
train, test = pixels[:1500], pixels[1500:]


# %% Model
class VAE(nn.Module):
    def __init__(self, size=64, hidden=400, latent=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.mean = nn.Linear(hidden, latent)
        self.spread = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, size),
        )

    def forward(self, x):
        hidden = self.encoder(x)
        mean, spread = self.mean(hidden), self.spread(hidden)
        z = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        return torch.sigmoid(self.decoder(z)), mean, spread


def elbo(output, x, mean, spread):
    """Reconstruction and divergence, summed."""
    likeness = functional.binary_cross_entropy(output, x, reduction="sum")
    return likeness - 0.5 * (1 + spread - mean.pow(2) - spread.exp()).sum()


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
losses = {"train": [], "test": []}
fixed = torch.randn(64, 8)
samples = []

# %% An epoch (x 12)
model.train()
total = 0.0
for batch in train[torch.randperm(len(train))].split(100):
    optimizer.zero_grad()
    loss = elbo(model(batch)[0], batch, *model(batch)[1:])
    loss.backward()
    optimizer.step()
    total += loss.item()
losses["train"].append(total / len(train))
model.eval()
with torch.no_grad():
    output, mean, spread = model(test)
    losses["test"].append(elbo(output, test, mean, spread).item() / len(test))
    samples.append(torch.sigmoid(model.decoder(fixed)).reshape(-1, 8, 8))

# %% Between two digits
with torch.no_grad():
    begin, end = (model.mean(model.encoder(test[i : i + 1])) for i in (0, 1))
    path = torch.stack([model.decoder(torch.lerp(begin, end, t)) for t in torch.linspace(0, 1, 9)])
