"""Model, data, training and testing: plain PyTorch."""

from functools import cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MOMENTUM = 0.9


class Net(nn.Module):
    """A small CNN for 1x8x8 images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(8 * 4 * 4, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv(x)))
        return self.out(F.relu(self.hidden(x.flatten(1))))


digits = cache(load_digits)


def load_data(partition_id, num_partitions, batch_size):
    """Every `num_partitions`-th image, four fifths for training."""
    mine = slice(partition_id, None, num_partitions)
    x = torch.tensor(digits().images[mine, None], dtype=torch.float32) / 16
    y = torch.tensor(digits().target[mine])
    cut = len(y) * 4 // 5
    # Batches that a seed fixes: two runs can be compared.
    order = torch.Generator().manual_seed(partition_id)
    train = TensorDataset(x[:cut], y[:cut])
    trainloader = DataLoader(train, batch_size=batch_size, shuffle=True, generator=order)
    return trainloader, DataLoader(TensorDataset(x[cut:], y[cut:]), batch_size=batch_size)


def train(net, trainloader, epochs, lr):
    """SGD with momentum; returns the mean loss over batches."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM)
    net.train()
    running_loss = 0.0
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
    return running_loss / (epochs * len(trainloader))


def test(net, testloader):
    """(mean loss over batches, accuracy)."""
    net.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for images, labels in testloader:
            outputs = net(images)
            loss += F.cross_entropy(outputs, labels).item()
            correct += (outputs.argmax(1) == labels).sum().item()
    return loss / len(testloader), correct / len(testloader.dataset)
