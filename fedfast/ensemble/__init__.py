"""K models of one architecture trained side by side, each on batches of its own or all on one."""

from .adam import Adam as Adam
from .models import Ensemble as Ensemble
