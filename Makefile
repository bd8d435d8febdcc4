# Every target starts from nothing and repeats nothing that is up to date.
VENV ?= .venv
# An environment that is there stays with the Python that it was made with.
MADE = $(and $(wildcard $(VENV)/ready),$(wildcard $(VENV)/bin/python))
PYTHON ?= $(or $(MADE),python3)
PAPER ?= book
TRACK ?=
PY = $(VENV)/bin/python
export VENV

.DEFAULT_GOAL := help
.PHONY: help setup system pdf html epub accessible test check judge run page \
  lock clean

help: ## list the targets
	@echo "Targets:"
	@grep -E '^[a-z]+:.*##' Makefile \
	  | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "Options: TORCH=cpu (PyTorch without CUDA), PYTHON=python3.12,"
	@echo "  PAPER=a4, letter or screen (for pdf: _build/book-a4.pdf),"
	@echo "  TRACK=beginner, practitioner or researcher (for pdf)"

setup: ## make .venv from requirements.lock (the others do it too)
	@$(PYTHON) -m press.setup

system: setup ## look for TeX, fonts and Graphviz; install them on Debian
	@$(PY) -m press.system

pdf: system ## the book as _build/book.pdf
	@$(PY) -m press.build pdf --paper $(PAPER) $(TRACK:%=--track %)

html: setup ## the book as a site: _build/html/index.html
	@$(PY) -m press.build html

epub: setup ## the book for e-readers: _build/book.epub
	@$(PY) -m press.build epub

accessible: system epub ## the book in large print, with tags: _build/book-large.pdf
	@$(PYTHON) -m press.setup --large
	@$(PY) -m press.build accessible

test: setup ## the tests, but for the long ones (those: judge)
	@$(PY) -m press.build test

check: setup ## lint, types, spelling and the book's own gates
	@$(PY) -m press.gates

judge: pdf html accessible ## the long suite: outside judges, mutants, two builds
	@$(PY) -m press.system --judges
	@$(PY) -m press.judge $(JUDGE)

run: setup ## train the book's small model (pdf and html do it too)
	@$(PY) -m press.build run

page: system ## one chapter alone: make page PAGE=book/model/attention.md
	@$(PY) -m press.build page $(PAGE)

lock: setup ## write requirements.lock anew from requirements.in
	@$(PY) -m press.lock

clean: ## remove all that was built; .venv stays
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune \
	  -exec rm -rf {} +
