# SPDX-License-Identifier: Apache-2.0
"""A word-level language model on the text of Python's reference, which ships with it."""

# %% Parameters
SCALE = 1.0
SEED = 1

# %% Imports
import re
from collections import Counter
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(SEED)
torch.set_num_threads(1)

# %% Words
text = "\n".join(topics[name] for name in sorted(topics))
words = re.findall(r"[a-z]+|[.,;:()]|\n\n", text.lower())
len(words)

# %% Vocabulary
counts = Counter(words)
vocabulary = {"<unknown>": 0}
for word, count in counts.most_common(3000):
    vocabulary[word] = len(vocabulary)
spelled = {number: word for word, number in vocabulary.items()}
corpus = torch.tensor([vocabulary.get(word, 0) for word in words])

# %% Batches
columns, length = 20, 30
corpus = corpus[: len(corpus) // columns * columns].reshape(columns, -1).T.contiguous()
cut = int(0.9 * len(corpus))
train, valid = corpus[:cut], corpus[cut:]


# %% Model
class WordModel(nn.Module):
    def __init__(self, size, width=128):
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        self.lstm = nn.LSTM(width, width, num_layers=1)
        self.drop = nn.Dropout(0.2)
        self.decoder = nn.Linear(width, size)
        self.decoder.weight = self.embedding.weight

    def forward(self, x, state=None):
        output, state = self.lstm(self.drop(self.embedding(x)), state)
        return self.decoder(self.drop(output)), state


model = WordModel(len(vocabulary))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
history, texts, position, state = [], [], 0, None


# %% How good is it, what does it write?
@torch.no_grad()
def perplexity(data):
    model.eval()
    losses, state = [], None
    for start in range(0, min(len(data) - 1, 300), length):
        x, y = data[start : start + length], data[start + 1 : start + 1 + length]
        output, state = model(x[: len(y)], state)
        losses.append(functional.cross_entropy(output.flatten(0, 1), y.flatten()))
    model.train()
    return torch.stack(losses).mean().exp().item()


@torch.no_grad()
def write(count=30):
    model.eval()
    word, state, written = torch.tensor([[vocabulary["the"]]]), None, []
    for _ in range(count):
        output, state = model(word, state)
        word = torch.multinomial(output[-1].softmax(-1), 1)
        written.append(spelled[int(word)])
    model.train()
    return " ".join(written)


# %% Some batches (x 12)
for _ in range(8):
    if position + length + 1 > len(train):
        position, state = 0, None
    x, y = train[position : position + length], train[position + 1 : position + length + 1]
    position += length
    optimizer.zero_grad()
    output, state = model(x, state)
    state = tuple(part.detach() for part in state)
    loss = functional.cross_entropy(output.flatten(0, 1), y.flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()
del output
history.append({"loss": loss.item(), "perplexity": perplexity(valid)})
texts.append(write())

# %% The nearest words
with torch.no_grad():
    unit = functional.normalize(model.embedding.weight, dim=1)
nearest = {
    word: [spelled[int(i)] for i in (unit @ unit[vocabulary[word]]).topk(5).indices]
    for word in ("class", "function", "string", "module")
}
