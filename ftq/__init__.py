"""ftq, a fine-tuning queue: the contract between the client and the worker."""

__version__ = "0.1.0"
