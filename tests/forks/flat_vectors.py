"""A simulator of FL-Simulator's shape: models are flat vectors, a client lives for one call.

Names of classes, attributes and methods are that project's, the code is ours: what docs/forks.md
patches, and what tests/test_forks.py compares the patched file with.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset


class Client:
    """Local SGD from the vector received."""

    def __init__(self, device, model_func, received_vecs, dataset, lr, args):
        self.args, self.received_vecs, self.comm_vecs = args, received_vecs, {}
        self.model, self.max_norm = model_func().to(device), 10
        vector_to_parameters(received_vecs["Params_list"].clone(), self.model.parameters())
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=lr, weight_decay=args.weight_decay
        )
        pairs = TensorDataset(*map(torch.as_tensor, dataset))
        self.dataset = DataLoader(pairs, batch_size=args.batchsize, shuffle=True)

    def gradient(self, inputs, labels):
        """Into `p.grad`."""
        self.optimizer.zero_grad()
        cross_entropy(self.model(inputs), labels.reshape(-1).long()).backward()

    def train(self):
        """The trained vector, and what it has moved by."""
        self.model.train()
        for _ in range(self.args.local_epochs):
            for inputs, labels in self.dataset:
                self.gradient(inputs, labels)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
                self.optimizer.step()
        last = parameters_to_vector(self.model.parameters()).detach()
        self.comm_vecs["local_update_list"] = last - self.received_vecs["Params_list"]
        self.comm_vecs["local_model_param_list"] = last
        return self.comm_vecs


class SAMClient(Client):
    """The gradient at `w + rho g / (|g| + 1e-7)`."""

    def gradient(self, inputs, labels):
        super().gradient(inputs, labels)
        weights = list(self.model.parameters())
        here = [p.detach().clone() for p in weights]
        norm = torch.stack([p.grad.norm() for p in weights]).norm()
        with torch.no_grad():
            for p in weights:
                p += self.args.rho / (norm + 1e-7) * p.grad
        super().gradient(inputs, labels)
        with torch.no_grad():
            for p, w in zip(weights, here, strict=True):
                p.copy_(w)


class Server:
    """FedAvg's server over either kind of client."""

    def __init__(self, device, model_func, init_model, init_par_list, datasets, method, args):
        self.device, self.model_func, self.args = device, model_func, args
        self.datasets, self.lr = datasets, args.local_learning_rate
        self.server_model, self.server_model_params_list = init_model, init_par_list
        self.clients_params_list = init_par_list.repeat(args.total_client, 1)
        self.clients_updated_params_list = torch.zeros_like(self.clients_params_list)
        self.comm_vecs = {"Params_list": init_par_list.clone()}
        self.Client = {"FedAvg": Client, "FedSAM": SAMClient}[method]

    def _activate_clients_(self, t):
        np.random.seed(t + self.args.seed)
        return np.flatnonzero(np.random.uniform(size=self.args.total_client) <= 0.6)

    def process_for_communication(self, client, averaged_update):
        """What a client is sent."""
        self.comm_vecs["Params_list"].copy_(self.server_model_params_list)

    def global_update(self, selected_clients, averaged_update, averaged_model):
        """The next vector."""
        return self.server_model_params_list + self.args.global_learning_rate * averaged_update

    def postprocess(self, client, received_vecs):
        """Whatever a method keeps of a client."""

    def train(self):
        """All rounds."""
        averaged_update = torch.zeros_like(self.server_model_params_list)
        for t in range(self.args.comm_rounds):
            selected_clients = self._activate_clients_(t)
            for client in selected_clients:
                dataset = (self.datasets.client_x[client], self.datasets.client_y[client])
                self.process_for_communication(client, averaged_update)
                edge_device = self.Client(
                    self.device, self.model_func, self.comm_vecs, dataset, self.lr, self.args
                )
                received_vecs = edge_device.train()
                self.clients_updated_params_list[client] = received_vecs["local_update_list"]
                self.clients_params_list[client] = received_vecs["local_model_param_list"]
                self.postprocess(client, received_vecs)
            averaged_update = self.clients_updated_params_list[selected_clients].mean(dim=0)
            averaged_model = self.clients_params_list[selected_clients].mean(dim=0)
            self.server_model_params_list = self.global_update(
                selected_clients, averaged_update, averaged_model
            )
            vector_to_parameters(self.server_model_params_list, self.server_model.parameters())
            self.lr *= self.args.lr_decay
