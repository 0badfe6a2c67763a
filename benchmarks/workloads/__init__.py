"""The workloads: a module for each kind, all of them listed in `registry`."""
