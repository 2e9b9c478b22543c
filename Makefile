# Everything a fresh machine needs: `make demo` to see it work, `make test` to trust it. POSIX make.
# The stamps in .venv make a second run instant; a change of pyproject.toml installs again.
.POSIX:
.PHONY: help demo test check fix bench e2e kernels clean
BIN = .venv/bin
E2E_PACKAGES = pulseaudio pulseaudio-utils libasound2-plugins ffmpeg chromium fonts-dejavu-core
OURS = avsr kernels tests benchmarks

help: ## show this
	@sed -n 's/^\([a-z0-9]*\):.*## /  make \1	/p' Makefile

demo: .venv/.installed ## caption a talking head by sound, by lips and by both, in quiet and in babble
	$(BIN)/avsr demo

# One process more than processors: many tests wait, for a clip to be spoken or a server to give up.
test: .venv/.installed-dev ## run every test
	$(BIN)/pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --maxprocesses 4 --dist loadfile

check: .venv/.installed-dev ## format, lint, types and layers; changes nothing
	$(BIN)/ruff format --check $(OURS)
	$(BIN)/ruff check $(OURS)
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/.installed-dev ## format, and repair what ruff can
	$(BIN)/ruff check --fix $(OURS)
	$(BIN)/ruff format $(OURS)

bench: .venv/.installed-dev ## run every benchmark with short inputs
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

e2e: .venv/.installed-dev ## with Debian's PulseAudio, FFmpeg and Chromium: live captions and the web page, end to end
	$$([ "$$(id -u)" = 0 ] || echo sudo) apt-get install -y --no-install-recommends $(E2E_PACKAGES)
	$(BIN)/pytest tests/live/test_end_to_end.py tests/serve/test_browser.py

kernels: .venv/.installed-dev ## compile every GPU kernel for sm_90, which needs no GPU, and list its registers and spills
	$(BIN)/python -m avsr_kernels.offline

clean: ## remove what was made here: .venv, caches, build output
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(OURS) -name __pycache__ -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml avsr/__init__.py .ci/setup
	.ci/setup
	@touch $@

.venv/.installed-dev: pyproject.toml avsr/__init__.py .ci/setup
	.ci/setup dev
	@touch $@ .venv/.installed
