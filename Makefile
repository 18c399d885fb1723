# Two commands do all the set-up on a fresh machine with Python and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types install-dev clean

$(BIN)/imagier: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(BIN)/imagier
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[heic,onnxruntime,quantise,train,web,dev]"
	touch $@

demo: $(BIN)/imagier  ## draw the demo images, run the main job on them, lay them out in folders
	$(BIN)/imagier samples demo
	$(BIN)/imagier run demo/images --into demo/collection --json demo/result.json
	$(BIN)/imagier organise demo/collection --apply
	@echo
	@echo "The images:   demo/images"
	@echo "The report:   demo/collection/report.html   (open it in a browser)"
	@echo "The plots:    demo/collection/plots"
	@echo "For viewers:  demo/result.json"
	@echo "Sorted:       demo/collection/organised"

install-dev: $(VENV)/dev

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

test: lint types  ## install with every extra, lint, types, all tests
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) demo
