"""Which rule forms the tangents of which layer."""

from __future__ import annotations

from .apart import Rectified
from .elementwise import Activation, Add, Scale
from .normalization import BatchNorm
from .pooling import AdaptivePool, Pool
from .products import Conv, ConvPool, Linear
from .program import Program
from .records import Record, Reshape
from .sequences import Embedding, Step
from .tangent_formulas import FORMULA, FORMULAS
from .tangent_layers import ACTIVATION, EMBEDDING, POOL, RECTIFIED
from .tangent_products import PRODUCT
from .tangents import Rule

LINEAR = Reshape, Add, Scale, AdaptivePool, Step
RULES: dict[type[Record], Rule] = {
    Linear: PRODUCT,
    Conv: PRODUCT,
    ConvPool: PRODUCT,
    Rectified: RECTIFIED,
    Activation: ACTIVATION,
    Pool: POOL,
    Embedding: EMBEDDING,
    **dict.fromkeys(FORMULAS, FORMULA),
    **{kind: Rule(kind.forward, kind.backward) for kind in LINEAR},
}


def covered(program: Program) -> bool:
    """Whether every layer has a rule, and none takes the statistics of its own batch."""
    own = any(isinstance(r, BatchNorm) and r.training for r in program.records)
    return not own and all(type(record) in RULES for record in program.records)
