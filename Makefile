# Short names for the commands in tools/. PYTHON=python3.13 chooses an interpreter.

export PYTHONS ?= $(PYTHON)

.PHONY: demo test check lint rust python conformance ecosystem free-threaded bench docs clean

demo: ## set up .venv and show a real server on Cloverleaf
	bash tools/demo.sh

test check: ## everything that CI runs
	bash tools/test.sh

lint rust python conformance: ## one stage of it; the last is CPython's own asyncio tests, every module
	bash tools/test.sh $@

ecosystem free-threaded: ## other projects' own test suites; wheels for Pythons without the GIL
	bash tools/test.sh $@

bench: ## Cloverleaf beside other loops
	bash tools/bench.sh

docs: ## the Rust crate's documentation
	cargo doc --workspace --no-deps

clean: ## what the build and the tests made
	rm -rf target .venv .venvs .mypy_cache .pytest_cache .ruff_cache \
		benchmarks/.venv benchmarks/.compare benchmarks/results/local
