"""Runs the whole product on one machine: `make demo` and `make serve`. Nothing in this package is deployed."""
