page: ; $(PY) -m tools.build page $(PAGE)
PY ?= /tmp/venv/bin/python
