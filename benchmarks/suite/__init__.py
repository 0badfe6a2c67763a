"""The machinery of the benchmarks: one file per concern, none of which knows a workload."""
