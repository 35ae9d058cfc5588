"""A benchmark of distilling reasoning into fast classifiers.

What a contributor's method file and a notebook need is exported here; ``__init__.pyi`` is the list.
Everything loads on first use, so that neither ``--help`` nor importing a method file imports torch.
"""

import lazy_loader

from dhrd_bench import plugins as plugins  # the registries ask it what there is to be found

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
