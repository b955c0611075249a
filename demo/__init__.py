"""The whole product on one machine: `make demo` and `make serve`. Nothing in here is deployed."""
