"""The command line, `l0gate`: everything it needs beyond the library is the extra `cli`."""
