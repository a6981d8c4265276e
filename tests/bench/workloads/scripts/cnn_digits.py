# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network on scikit-learn's digits, saved after every epoch."""

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
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
train, test = order[:1400], order[1400:]


# %% Model
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.norm = nn.BatchNorm2d(64)
        self.hidden = nn.Linear(64 * 16, 256)
        self.out = nn.Linear(256, 10)

    def forward(self, x):
        x = functional.relu(self.first(x))
        x = functional.max_pool2d(functional.relu(self.norm(self.second(x))), 2)
        return self.out(functional.relu(self.hidden(x.flatten(1))))


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
history = []
best = (0.0, None)

# %% An epoch (x 10)
net.train()
shuffled = train[torch.randperm(len(train))]
total = 0.0
for batch in shuffled.split(64):
    optimizer.zero_grad()
    loss = functional.cross_entropy(net(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    total += loss.item() * len(batch)
net.eval()
with torch.no_grad():
    predicted = net(images[test]).argmax(1)
accuracy = (predicted == labels[test]).float().mean().item()
history.append({"loss": total / len(train), "accuracy": accuracy})
if accuracy > best[0]:
    best = (accuracy, {name: value.clone() for name, value in net.state_dict().items()})

# %% Freeze the convolutions and go on
for layer in (net.first, net.second):
    layer.requires_grad_(False)
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e-2, momentum=0.9)

# %% A frozen epoch (x 5)
net.train()
for batch in train[torch.randperm(len(train))].split(64):
    optimizer.zero_grad()
    loss = functional.cross_entropy(net(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
with torch.no_grad():
    history.append(
        {
            "loss": loss.item(),
            "accuracy": (net(images[test]).argmax(1) == labels[test]).float().mean().item(),
        }
    )

# %% Mistakes
with torch.no_grad():
    logits = net.eval()(images[test])
wrong = test[logits.argmax(1) != labels[test]]
mistakes = [(int(i), int(labels[i])) for i in wrong]
