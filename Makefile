# What the README calls. Each target is two or three plain commands; the README spells them out for systems without make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(shell find src -name '*.py' -o -name '*.onnx' -o -name '*.toml' -o -name '*.html' -o -name '*.css' -o -name '*.js')
# the development install is editable, so it serves the demo too, and `make demo` after `make test` installs nothing
INSTALLED := $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.base)
# what private mode of the web app runs in the browser; without npm the app comes without that mode, and its tests are skipped
PRIVATE := src/mien/web/static/vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm.gzip

.PHONY: demo test lint docs soak wheel-check image-check private private-where-npm-is clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)  ## analyse a real portrait; leaves an annotated picture and a heatmap in demo/
	$(BIN)/mien demo --output demo

test: $(VENV)/.dev private-where-npm-is  ## what a change must pass: 15 minutes at most on two cores
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.dev  ## the documentation as a site in site/; strict, without network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

soak: $(VENV)/.dev private-where-npm-is  ## the long ones
	$(BIN)/python -m pytest -m soak --timeout 7200

wheel-check: $(VENV)/.dev private-where-npm-is  ## size of the base install, and a wheel that predicts without network
	$(BIN)/python .ci/wheel_check.py

image-check:  ## follow the Dockerfile in debootstrap chroots and start its service locked; needs root and Debian's mirror
	$(PYTHON) .ci/image_check.py

private: $(PRIVATE)  ## private mode's files from the npm registry, as web-build/package-lock.json pins them

private-where-npm-is:
	@if ! command -v npm >/dev/null; then echo "no npm: private mode is left out"; \
	elif ! [ -e $(PRIVATE) ] && ! npm view onnxruntime-web version >/dev/null 2>&1; then \
	echo "npm reaches no registry: private mode is left out"; \
	else $(MAKE) --no-print-directory private; fi

$(PRIVATE): web-build/package-lock.json web-build/copy.mjs
	npm ci --prefix web-build --ignore-scripts --no-audit --no-fund
	npm run build --prefix web-build
	touch $@

clean:  ## everything that these targets made, the environment included
	rm -rf web-build/node_modules src/mien/web/static/vendor
	rm -rf $(VENV) build dist demo site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mien needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	touch $@
