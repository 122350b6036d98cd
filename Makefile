# make demo: set up, train the small built-in recipe, evaluate, write the report.  make test: the test suite.
PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo test test-slow test-parity parity-table lint clean

demo: .venv/ready
	$(RUN) tools/make_demo_data.py --output data/demo
	$(RUN) -m jaxdeblur.main --config configs/demo.py --workdir runs/demo

test: .venv/ready
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow and not parity"

test-slow: .venv/ready
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	$(RUN) -m pytest -m slow

# The version that the bounds were measured with.
test-parity: .venv/ready
	$(RUN) -m pip install --quiet torch==2.13.0
	$(RUN) -m pytest -m parity

parity-table: .venv/ready
	$(RUN) -m pip install --quiet torch==2.13.0
	$(RUN) tools/update_parity_table.py

lint: .venv/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf .venv data/demo runs/demo

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[demo-data,test]'
	touch $@
