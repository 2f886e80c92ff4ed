"""One paper per file; an algorithm is a frozen dataclass of its paper's parameters.

A new file here needs no line below: all files are imported, and what they register is found by its
name and, if it is an algorithm, as an attribute of this package.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .._renamed_modules import names_of
from ..lr_schedules import Cosine as Cosine
from ..lr_schedules import Exponential as Exponential
from ..lr_schedules import Ramp as Ramp
from .base import ALGORITHMS as ALGORITHMS
from .base import Algorithm as Algorithm
from .centralized import Centralized as Centralized
from .drift import DRIFTS as DRIFTS
from .drift import Drift as Drift
from .fedala import FedALA as FedALA
from .fedavg import FedAvg as FedAvg
from .fedavgft import FedAvgFT as FedAvgFT
from .fedcm import ClientMomentum as ClientMomentum
from .fedcm import FedCM as FedCM
from .fedcm import MoFedSAM as MoFedSAM
from .fedcr import BottleneckSGD as BottleneckSGD
from .fedcr import FedCR as FedCR
from .feddyn import Dual as Dual
from .feddyn import FedDyn as FedDyn
from .fedfsa import FSA as FSA
from .fedfsa import FedFSA as FedFSA
from .fedfsa import OfficialMomentum as OfficialMomentum
from .fedgh import FedGH as FedGH
from .fedgh import Harmonized as Harmonized
from .fedgloss import EpochDual as EpochDual
from .fedgloss import FedGloSS as FedGloSS
from .fedgloss import NaiveFedGloSS as NaiveFedGloSS
from .fedgloss import RehearsedSAM as RehearsedSAM
from .fedgloss import ServerSAM as ServerSAM
from .fedlesam import LESAM as LESAM
from .fedlesam import FedLESAM as FedLESAM
from .fedlesam import FedLESAMD as FedLESAMD
from .fedlesam import FedLESAMS as FedLESAMS
from .fednsam import FedNSAM as FedNSAM
from .fednsam import FedNSAMSingle as FedNSAMSingle
from .fednsam import LookAhead as LookAhead
from .fednsam import Nesterov as Nesterov
from .fedopt import Adagrad as Adagrad
from .fedopt import Adam as Adam
from .fedopt import FedAdagrad as FedAdagrad
from .fedopt import FedAdam as FedAdam
from .fedopt import FedAvgM as FedAvgM
from .fedopt import FedYogi as FedYogi
from .fedopt import Momentum as Momentum
from .fedopt import Yogi as Yogi
from .fedprox import FedProx as FedProx
from .fedprox import Prox as Prox
from .fedsagm import SAGM as SAGM
from .fedsagm import FedSAGM as FedSAGM
from .fedsam import FedASAM as FedASAM
from .fedsam import FedSAM as FedSAM
from .fedsgd import FedSGD as FedSGD
from .fedsmoo import ConsensusSAM as ConsensusSAM
from .fedsmoo import FedSMOO as FedSMOO
from .fedsol import FedSOL as FedSOL
from .fedsol import ProximalSAM as ProximalSAM
from .fedspeed import ExtraSAM as ExtraSAM
from .fedspeed import FedSpeed as FedSpeed
from .fedwmsam import FedWMSAM as FedWMSAM
from .fedwmsam import GuidedSAM as GuidedSAM
from .fedwmsam import WeightedMomentum as WeightedMomentum
from .finetune import FineTune as FineTune
from .hooks import Clients as Clients
from .hooks import Cohort as Cohort
from .hooks import Component as Component
from .hooks import Direction as Direction
from .hooks import ServerView as ServerView
from .hooks import Sum as Sum
from .hooks import TrainedLayout as TrainedLayout
from .layer_radii import LayerRadii as LayerRadii
from .lookup import by_name as by_name
from .lookup import name_of as name_of
from .lookup import names as names
from .lookup import registry_of as registry_of
from .lookup import schedule as schedule
from .optimizers import ASAM as ASAM
from .optimizers import OPTIMIZERS as OPTIMIZERS
from .optimizers import SAM as SAM
from .optimizers import SGD as SGD
from .optimizers import Optimizer as Optimizer
from .scaffold import SCAFFOLD as SCAFFOLD
from .scaffold import ControlVariate as ControlVariate
from .scaffold import FedGAMMA as FedGAMMA
from .servers import SERVER_RULES as SERVER_RULES
from .servers import Average as Average
from .servers import ServerRule as ServerRule

for _file in iter_modules(__path__):
    import_module(f".{_file.name}", __name__)
globals().update({made.__name__: made for made in ALGORITHMS.values()})

__getattr__ = names_of(__name__)
