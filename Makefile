# The course's commands. `make help` lists them.

PYTHON ?= python3
TORCH_INDEX ?=
LAB_FLAGS ?=
N ?=
ALL ?=
BIN := .venv/bin
LESSONS := $(sort $(wildcard notebooks/$(or $(N),[0-9][0-9])_*.ipynb))
DEEPER := $(sort $(wildcard notebooks/deeper/$(if $(N),$(N)_)*.ipynb))
EXERCISES := $(subst /source/,/,$(sort $(wildcard notebooks/exercises/source/$(or $(N),[0-9][0-9])_*.ipynb)))
PIP := $(BIN)/python -m pip --disable-pip-version-check
QUIET := .venv/share/jupyter/lab/settings/overrides.json
KERNEL := .venv/etc/ipython/ipython_kernel_config.json
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
EXECUTE := $(BIN)/python -m lessons_src.make.notebooks $(if $(ALL),--all)
NBVAL := $(BIN)/pytest --nbval --nbval-cell-timeout=600 --nbval-sanitize-with tests/notebooks/nbval.cfg -n 2 --dist loadfile

# Two test workers on two cores: one thread each, or they wait for each other.
test-unit test-notebooks test-browser lesson quick notebooks exercises class-demo: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help lab test lesson quick lint test-unit test-notebooks test-browser notebooks exercises pages minutes class-demo weights students scenes measurements samples pareto pairs format clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

lab: .venv/lab $(QUIET) $(KERNEL)  ## set up what is missing, then open the course in JupyterLab
	$(BIN)/jupyter lab $(AS_ROOT) --ServerApp.root_dir=$(CURDIR) $(LAB_FLAGS) notebooks/00_start_here.ipynb

test: lint test-unit test-notebooks  ## set up what is missing, then lint, run the unit tests and check every notebook

lesson: lint  ## work on one lesson, as in `make lesson N=05`: style, its tests, its exercise edition, its notebooks
	@test -n "$(LESSONS)" -a -n "$(N)" || { echo "make lesson N=05: the number of a lesson, two digits"; exit 2; }
	$(EXECUTE) $(LESSONS) $(DEEPER)
	$(BIN)/python -m lessons_src.exercises.editions $(N)
	$(if $(EXERCISES),$(EXECUTE) $(EXERCISES))
	$(BIN)/pytest tests/make/test_pages.py
	$(BIN)/pytest -n 2 tests/lessons tests/notebooks -k "lesson_$(N) or $(N)_" -m "not slow and not browser"
	$(NBVAL) $(LESSONS) $(DEEPER) $(EXERCISES)

quick: lint  ## style, types, and the tests of the package's front room
	$(BIN)/pytest -n 2 --dist worksteal tests/core -m "not slow and not browser"

lint: .venv/test  ## check the style of code and notebooks, and the types of the package's front room
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-unit: .venv/test  ## unit tests: numbers, properties, errors, widgets, quizzes
	$(BIN)/pytest -n 2 --dist worksteal

test-notebooks: .venv/test  ## run every notebook from a fresh kernel and compare text and numbers with the stored outputs
	$(NBVAL) $(LESSONS) $(DEEPER) $(EXERCISES)

test-browser: .venv/test  ## drive every lesson in headless Chromium (needs Debian's chromium or another Chromium)
	$(BIN)/pytest -m browser -n 2 --maxschedchunk 1 tests/browser

notebooks: .venv/test  ## execute the notebooks that changed and store their outputs (ALL=1: every lesson, every deeper one)
	$(EXECUTE) $(LESSONS) $(DEEPER)

exercises: .venv/test  ## make the learners' edition of every exercise notebook from its source
	$(BIN)/python -m lessons_src.exercises.editions $(N)
	$(EXECUTE) $(EXERCISES)

pages: .venv/lab  ## write the tables, links and plans that the list of lessons decides
	$(BIN)/python -m lessons_src.make.pages

minutes: .venv/lab  ## measure how long each lesson takes a reader, and how soon there is something to move
	$(BIN)/python -m lessons_src.make.minutes $(LESSONS)

class-demo: .venv/test  ## grade a class of twenty-five made-up submissions, some broken, some hostile, and print the table
	$(BIN)/python -m lessons_src.grading demo --folder $$(mktemp -d)/class

weights: .venv/lab  ## train the shipped networks again (ten minutes or more) in place of the shipped ones; git checkout brings those back
	$(BIN)/python -m lessons_src.make.weights

students: .venv/lab  ## train students of the digit network again, in place of the shipped ones (minutes on a GPU, half an hour without)
	$(BIN)/python -m lessons_src.make.students

scenes: .venv/lab  ## train the networks that draw captioned scenes again, in place of the shipped ones (minutes on a GPU, two to three hours without)
	$(BIN)/python -m lessons_src.make.scenes

measurements: .venv/lab  ## measure what lessons show but have no time to compute (hours); goes on where it stopped
	$(BIN)/python -m lessons_src.make.measurements

samples: .venv/lab  ## draw the samples that lesson 13 judges (hours without a GPU)
	$(BIN)/python -m lessons_src.make.samples

pareto: .venv/lab  ## measure what solvers reach with how many evaluations (hours; goes on where it stopped), draw it
	$(BIN)/python -m lessons_src.make.front

pairs: .venv/lab  ## draw the digits of the blind comparison (ten minutes)
	$(BIN)/python -m lessons_src.make.pairs

format: .venv/test  ## rewrite code and notebooks in the course's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment that make has set up
	rm -rf .venv

# On Linux, PyTorch's default build brings NVIDIA's libraries. TORCH_INDEX names another package index for torch alone,
# for example the CPU-only one that pytorch.org lists.
LARGE := $(and $(filter Linux,$(shell uname -s)),$(if $(TORCH_INDEX),,yes))
# The first time says what it does, with pip's progress bars; later ones, after an update of the course, only what fails.
AGAIN = $(wildcard $(BIN)/jupyter-lab)

.venv/lab: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'
	@test -n "$(AGAIN)" || printf "%s\n" \
		"Once only: PyTorch, JupyterLab and about a hundred packages that they need go into the folder .venv." \
		"To download: $(if $(LARGE),2.8 GB,0.3 GB). On disk: $(if $(LARGE),5 GB,1.3 GB)." \
		"At 100 Mbit/s: $(if $(LARGE),about six minutes,one or two minutes)." \
		$(if $(LARGE),"(Most of it is for NVIDIA cards. README.md says how to leave that out.)")
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),@$(PIP) $(if $(AGAIN),--quiet) install -c constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	@$(PIP) $(if $(AGAIN),--quiet) install -c constraints.txt -e '.[notebooks]'
	@touch $@

# Without this, JupyterLab begins by asking whether it may fetch news, and a saved lesson loses its pictures and answers.
define SETTINGS
{
  "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false},
  "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": true}
}
endef
export SETTINGS
$(QUIET): $(firstword $(MAKEFILE_LIST)) | .venv/lab
	@mkdir -p $(@D)
	@echo "$$SETTINGS" > $@

# With this, a cell that is run too early, or stopped, says what to do.
$(KERNEL): $(firstword $(MAKEFILE_LIST)) | .venv/lab
	@mkdir -p $(@D)
	@echo '{"InteractiveShellApp": {"extensions": ["lessons_src.show.errors"]}}' > $@

.venv/test: .venv/lab
	@echo "What the tests and the grader need goes into .venv too: a minute, once."
	@$(PIP) --quiet install -c constraints.txt -e '.[notebooks,grading,cluster,onnx,test]'
	touch $@
