"""Which client rows are used where they lie instead of being gathered and scattered."""

from __future__ import annotations

from ._hook_checks import foreign, overrides
from ._return_checks import kept_rows
from .base import Algorithm


def placed_rows(algorithm: Algorithm) -> frozenset[str]:
    """Rows of components that are `in_place`, and personal models that no client starts from.

    None under code of the user's, which may look for any row in `at.own`.
    """
    if any(foreign(part) for part in (algorithm, *algorithm.components)):
        return frozenset()
    in_place = [p for p in algorithm.components if vars(type(p)).get("in_place", False)]
    names = {name for part in in_place for name in kept_rows(part)}
    if algorithm.personal is not None and not overrides(algorithm, "starts", Algorithm):
        names.add(algorithm.personal)
    return frozenset(names)
