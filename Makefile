# make demo: restore photographs with the shipped network, fine-tune it, evaluate it, write a report.
# make test: the fast tests. See CONTRIBUTING.md for the other targets.
# make data/made: synthetically blurred photographs, which the recommended recipes mix in.
PYTHON ?= python3
RUN := .venv/bin/python
PHOTOGRAPHS := $(addsuffix .png,astronaut brick camera chelsea coffee coins grass gravel motorcycle_left) rocket.jpg

.PHONY: demo test test-slow test-parity test-gpu parity-table lint clean

demo: .venv/ready
	$(RUN) tools/restore_demo_photographs.py --output runs/demo-photographs/before_after.html
	$(RUN) tools/make_demo_data.py --output data/demo
	$(RUN) -m jaxdeblur.main --config configs/demo.py --workdir runs/demo

# 1,200 pairs from 12 photographs that ship in scikit-image and scikit-learn; takes a minute.
# Order-only prerequisite (|): rebuilding .venv must not rebuild the data.
data/made: | .venv/ready
	mkdir -p data/photographs
	shipped=$$($(RUN) -c "import skimage.data; print(skimage.data.data_dir)"); \
	for name in $(PHOTOGRAPHS); do cp $$shipped/$$name data/photographs || exit 1; done
	cp $$($(RUN) -c "import sklearn; print(sklearn.__path__[0])")/datasets/images/*.jpg data/photographs
	$(RUN) tools/synthesize_blur.py photos --input data/photographs --output $@ --exposures 100 --side 256 \
		--variants blur --travel 2 12 --region_travel 2 12 --highlight_gain 1 --shot_noise 0 --read_noise 0 \
		--test_share 0 --validation_share 0

# Most XLA programs in the tests run once, so optimising them costs more than it saves. OPTIMISED tests the kernels themselves.
FAST := -n 2 --dist loadfile -m "not slow and not parity"
OPTIMISED := $(addprefix tests/,models/cpu_convolutions_test.py runtime/compilation_test.py training/step_test.py)
test: .venv/ready
	XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" \
		$(RUN) -m pytest $(FAST) $(addprefix --ignore=,$(OPTIMISED))
	$(RUN) -m pytest $(FAST) $(OPTIMISED)

test-slow: .venv/ready
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	$(RUN) -m pytest -m slow

# The PyTorch version that the bounds were measured with.
test-parity: .venv/ready
	$(RUN) -m pip install --quiet torch==2.13.0
	$(RUN) -m pytest -m parity

parity-table: .venv/ready
	$(RUN) -m pip install --quiet torch==2.13.0
	$(RUN) tools/update_parity_table.py

# On a machine with a CUDA device, by any Python that has JAX and this project's requirements: PYTHON=python3.12.
test-gpu:
	$(PYTHON) tools/gpu_check.py --output runs/gpu_check

lint: .venv/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

clean:
	rm -rf .venv data/demo data/made data/photographs runs/demo runs/demo-photographs

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required; choose one with make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[demo-data,test]'
	touch $@
