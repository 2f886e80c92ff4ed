"""Second derivatives of the mean loss of K models: products with the Hessian, K at a time."""

from .product import HessianProduct, product_for

__all__ = ["HessianProduct", "product_for"]
