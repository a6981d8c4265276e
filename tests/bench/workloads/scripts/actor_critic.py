# SPDX-License-Identifier: Apache-2.0
"""Actor-critic on CartPole, whose physics are written out; saved every few episodes."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import math
import random
from collections import namedtuple

import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(SEED)
torch.set_num_threads(1)
rng = random.Random(SEED)


# %% CartPole, after Barto, Sutton and Anderson (1983)
class CartPole:
    gravity, length, force, step_seconds = 9.8, 0.5, 10.0, 0.02
    cart_mass, pole_mass = 1.0, 0.1

    def reset(self):
        self.state = [rng.uniform(-0.05, 0.05) for _ in range(4)]
        self.steps = 0
        return self.state

    def step(self, action):
        x, speed, angle, turning = self.state
        force = self.force if action else -self.force
        mass = self.cart_mass + self.pole_mass
        sine, cosine = math.sin(angle), math.cos(angle)
        push = (force + self.pole_mass * self.length * turning**2 * sine) / mass
        angular = (self.gravity * sine - cosine * push) / (
            self.length * (4 / 3 - self.pole_mass * cosine**2 / mass)
        )
        linear = push - self.pole_mass * self.length * angular * cosine / mass
        dt = self.step_seconds
        self.state = [
            x + dt * speed,
            speed + dt * linear,
            angle + dt * turning,
            turning + dt * angular,
        ]
        self.steps += 1
        fallen = abs(self.state[0]) > 2.4 or abs(self.state[2]) > math.radians(12)
        return self.state, 1.0, fallen or self.steps >= 500


# %% The policy and its critic
Step = namedtuple("Step", "log_probability value reward entropy")


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.actor = nn.Linear(128, 2)
        self.critic = nn.Linear(128, 1)

    def forward(self, state):
        hidden = self.body(state)
        return Categorical(logits=self.actor(hidden)), self.critic(hidden).squeeze(-1)


environment = CartPole()
policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
returns = []
replay = []


# %% An episode
def play():
    """Let the policy act until the pole falls."""
    state, steps, done = environment.reset(), [], False
    while not done:
        choice, value = policy(torch.tensor(state))
        action = choice.sample()
        seen = (tuple(state), int(action))
        state, reward, done = environment.step(int(action))
        steps.append(Step(choice.log_prob(action), value, reward, choice.entropy()))
        replay.append((*seen, reward))
    return steps


# %% Five episodes (x 15)
for _ in range(5):
    steps = play()
    total, targets = 0.0, []
    for step in reversed(steps):
        total = step.reward + 0.99 * total
        targets.append(total)
    targets = torch.tensor(targets[::-1])
    values = torch.stack([step.value for step in steps])
    advantage = targets - values.detach()
    chosen = torch.stack([step.log_probability for step in steps])
    entropy = torch.stack([step.entropy for step in steps]).mean()
    loss = -(chosen * advantage).mean() + (values - targets).pow(2).mean() * 0.5 - 0.01 * entropy
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    returns.append(len(steps))
del steps, step, values, chosen, entropy, loss
replay = replay[-20_000:]

# %% How well does it do?
running = [sum(returns[max(0, i - 9) : i + 1]) / min(i + 1, 10) for i in range(len(returns))]
best = max(running)
