"""Backends that come with l0gate."""
