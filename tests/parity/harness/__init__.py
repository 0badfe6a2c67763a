"""What the tests stand on: the loops under test, and guards against hangs and leaks."""
