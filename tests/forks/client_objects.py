"""A library of PFLlib's shape: every client is an object that keeps its model between rounds.

Names of classes, attributes and methods are that project's, the code is ours: what docs/forks.md
patches, and what tests/test_forks.py compares the patched file with.
"""

import copy
import random

import numpy as np
import torch
from torch.utils.data import DataLoader


class Client:
    """Local SGD on whole batches; buffers stay with the client."""

    def __init__(self, args, id, train_data):
        self.id, self.model = id, copy.deepcopy(args.model)
        self.train_data, self.train_samples = train_data, len(train_data)
        self.batch_size, self.local_epochs = args.batch_size, args.local_epochs
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=args.local_learning_rate)
        self.learning_rate_scheduler = torch.optim.lr_scheduler.ExponentialLR(
            self.optimizer, gamma=args.learning_rate_decay_gamma
        )
        self.learning_rate_decay, self.rho = args.learning_rate_decay, args.rho

    def load_train_data(self):
        """Shuffled, without a short last batch."""
        return DataLoader(self.train_data, self.batch_size, drop_last=True, shuffle=True)

    def set_parameters(self, model):
        """Take over the parameters of a model."""
        for mine, new in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.data = new.data.clone()

    def gradient(self, x, y):
        """Into `p.grad`, at `w + rho g / |g|` where rho > 0."""
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        if self.rho:
            weights = list(self.model.parameters())
            here = [p.detach().clone() for p in weights]
            norm = torch.stack([p.grad.norm() for p in weights]).norm()
            for p in weights:
                p.data += self.rho / (norm + 1e-12) * p.grad
            self.optimizer.zero_grad()
            self.loss(self.model(x), y).backward()
            for p, w in zip(weights, here, strict=True):
                p.data = w

    def train(self):
        """One round."""
        self.model.train()
        for _ in range(self.local_epochs):
            for x, y in self.load_train_data():
                self.gradient(x, y)
                self.optimizer.step()
        if self.learning_rate_decay:
            self.learning_rate_scheduler.step()


class Server:
    """FedAvg: parameters weighted by samples."""

    def __init__(self, args, times):
        self.args, self.global_model = args, copy.deepcopy(args.model)
        self.clients, self.selected_clients = [], []
        self.set_clients(Client)

    def set_clients(self, clientObj):
        """One object per client."""
        for i, train_data in enumerate(self.args.train_data):
            self.clients.append(clientObj(self.args, i, train_data))

    def select_clients(self):
        """Without replacement."""
        count = int(len(self.clients) * self.args.join_ratio)
        return list(np.random.choice(self.clients, count, replace=False))

    def send_models(self):
        """To everybody."""
        for client in self.clients:
            client.set_parameters(self.global_model)

    def receive_models(self):
        """From who trained."""
        active = random.sample(self.selected_clients, len(self.selected_clients))
        total = sum(client.train_samples for client in active)
        self.uploaded_weights = [client.train_samples / total for client in active]
        self.uploaded_models = [client.model for client in active]

    def aggregate_parameters(self):
        """The weighted mean of parameters; buffers are the first model's."""
        self.global_model = copy.deepcopy(self.uploaded_models[0])
        for param in self.global_model.parameters():
            param.data.zero_()
        for w, model in zip(self.uploaded_weights, self.uploaded_models, strict=True):
            for mine, theirs in zip(
                self.global_model.parameters(), model.parameters(), strict=True
            ):
                mine.data += theirs.data * w

    def train(self):
        """All rounds."""
        for i in range(self.args.global_rounds + 1):
            self.selected_clients = self.select_clients()
            self.send_models()
            for client in self.selected_clients:
                client.train()
            self.receive_models()
            self.aggregate_parameters()
            self.rounds_done = i + 1
