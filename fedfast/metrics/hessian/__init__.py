"""Second derivatives of the mean loss of K models: products with the Hessian, what they tell."""

from .density import Density
from .eigenvalues import Eigenvalues
from .product import HessianProduct, product_for
from .solvers import Hessian
from .trace import Trace

__all__ = ["Density", "Eigenvalues", "Hessian", "HessianProduct", "Trace", "product_for"]
