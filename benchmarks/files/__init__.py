"""Files: Cloverleaf and other packages for asynchronous files."""
