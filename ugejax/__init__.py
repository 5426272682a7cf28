"""Conditionally learnable image datasets in JAX (UnGeneralizable Examples).

The public names are those of this module and of its namespaces `baselines`, `countermeasures`, `losses`, `networks`,
`terms`, `transforms` and `views`; each is imported when it is asked for.
"""

import lazy_loader

__version__ = "0.2.0"

# The names and where they come from are in __init__.pyi, which type checkers read as well.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
