"""ftq, a fine-tuning queue: the contract between the client and the worker."""

from ftq.version import VERSION

__version__ = VERSION
