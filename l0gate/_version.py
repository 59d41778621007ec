"""The version of l0gate."""

__version__ = "0.1.0"
