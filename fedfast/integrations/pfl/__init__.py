"""pfl-research: a `Backend` that trains a whole cohort at once. Needs the extra `[pfl]`.

    backend = CohortBackend(training_data, val_data, postprocessors)      # was: SimulatedBackend(

Docs: docs/pfl.md.
"""

try:
    import pfl  # noqa: F401
except ImportError as error:
    raise ImportError('fedfast.integrations.pfl needs pfl: pip install "fedfast[pfl]"') from error

from .backend import CohortBackend

__all__ = ["CohortBackend"]
