# What a newcomer needs is `make demo` and `make test`. Everything is made on the way, below .venv.
PYTHON ?= python3
# The main version. On the lowest, everything else that pyproject.toml asks for is as old as it allows, too.
AIRFLOW ?= 3.3.2
LOWEST := 3.2.2
NEWEST := 3.4.0
# Tests that run at the same time.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)

# With later ones, Airflow 3.2.2 can't make its own API, which 3.3.2 says itself, and dag.test() asks that API before it has started.
PINS_3.2.2 := "fastapi<0.137" "svcs<26"
# A pre-release of it until there is the version itself. uv takes pre-releases only of what is asked for by one.
PINS_3.4.0 := "apache-airflow-core>=3.4.0b2" "apache-airflow-task-sdk>=1.4.0b2"
IS_3.4.0 := >=3.4.0b2,<=3.4.0

export CHROMIUM ?= /usr/bin/chromium
export NGINX ?= .venv/tools/nginx/usr/sbin/nginx
export MARIADBD ?= /usr/sbin/mariadbd
export REDIS_SERVER ?= /usr/bin/redis-server

UV := .venv/tools/bin/uv
BIN := .venv/airflow-$(AIRFLOW)/bin
INSTALL = $(UV) pip install --quiet --python $(@D)/bin/python
export UV_PYTHON_DOWNLOADS := never
# The tests start Airflow's programs a hundred times: compiling them each time takes longer than the tests.
unexport PYTHONDONTWRITEBYTECODE

# tests/conftest.py says which of them go together.
PYTEST := -m pytest -n $(WORKERS)
# What takes minutes and asks our own code only, with Airflow played by the tests, runs on the main version; so does MariaDB.
ONCE := $(addprefix --ignore tests/integration/airflow/,disturbed test_ledger_next_link.py)
EVERY_VERSION := tests/unit tests/integration tests/e2e/test_every_version.py tests/e2e/test_pay.py $(ONCE) -k "not mariadb"

.PHONY: install demo test test-e2e test-image test-lowest test-newest test-next lint bench clean
.DELETE_ON_ERROR:
.SECONDARY:

install: .venv/airflow-$(AIRFLOW)/ready ## what the demo needs, which it makes by itself, too

demo: .venv/airflow-$(AIRFLOW)/ready ## run the whole pipeline on a real Airflow and the sandbox; KEEP=1 leaves it running
	$(BIN)/python -m tests.e2e.demo $(if $(KEEP),--keep)

test: test-e2e test-image ## all tests, on the main version

test-e2e: .venv/airflow-$(AIRFLOW)/ready $(CHROMIUM) $(NGINX) $(MARIADBD) $(REDIS_SERVER)
	$(BIN)/python $(PYTEST) tests/e2e --ignore tests/e2e/test_every_version.py

# Beside the providers of Airflow's official image, as deployments have them: other packages may change what ours find. Only what starts
# Airflow a hundred times has none of them above, since each process takes three times as long to start with them.
test-image: .venv/image/ready .venv/codecarbon-newest/ready .venv/codecarbon-2.3.4/ready $(CHROMIUM) $(MARIADBD)
	.venv/image/bin/python $(PYTEST) tests/unit tests/integration tests/validator tests/e2e/test_every_version.py

test-lowest: .venv/lowest/ready $(CHROMIUM) ## what must work everywhere, on the lowest version of everything
	.venv/lowest/bin/python $(PYTEST) $(EVERY_VERSION)

test-newest: .venv/airflow-$(NEWEST)/ready $(CHROMIUM) ## what can differ, on the newest version
	.venv/airflow-$(NEWEST)/bin/python $(PYTEST) --airflow-side $(EVERY_VERSION)

test-next: .venv/next/ready $(CHROMIUM) ## what can differ, on the newest pre-release that can be had now
	$(UV) pip list --python .venv/next/bin/python | grep "^apache-airflow "
	.venv/next/bin/python $(PYTEST) --airflow-side $(EVERY_VERSION)

# The end-to-end tests drive a real browser.
$(CHROMIUM):
	@echo "There is no browser at $(CHROMIUM): installing Debian's package chromium with apt-get, which takes a minute."
	@echo "Where that can't be: install a Chromium and say where it is, make test CHROMIUM=/path/to/chromium"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium

# Unpacked, not installed: Debian's package would start a web server on this machine.
$(NGINX):
	@echo "Fetching Debian's package nginx for the test of the proxy example."
	@echo "Where that can't be: install nginx and say where it is, make test NGINX=/usr/sbin/nginx"
	mkdir -p .venv/tools/nginx
	apt-get update -qq
	cd .venv/tools/nginx && apt-get download -qq nginx
	dpkg -x .venv/tools/nginx/nginx_*.deb .venv/tools/nginx
	touch $@

# The tests of the ledger start a server of their own. The programs alone: none is started on this machine; the client's include
# what makes an empty database.
$(MARIADBD):
	@echo "There is no MariaDB at $(MARIADBD): installing Debian's packages mariadb-server-core and mariadb-client-core with apt-get."
	@echo "Where that can't be: install MariaDB and say where it is, make test MARIADBD=/path/to/mariadbd"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mariadb-server-core mariadb-client-core

# The test of an Airflow on several machines starts a server of its own. --no-install-recommends: the programs, nothing else.
$(REDIS_SERVER):
	@echo "There is no Redis at $(REDIS_SERVER): installing Debian's package redis-server with apt-get."
	@echo "Where that can't be: install Redis and say where it is, make test REDIS_SERVER=/path/to/redis-server"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends redis-server

lint: .venv/airflow-$(AIRFLOW)/ready ## ruff, mypy, and what the package index and its users would see
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	rm -rf .venv/dist
	$(BIN)/python -m build --outdir .venv/dist .
	$(BIN)/twine check --strict .venv/dist/*
	$(BIN)/check-wheel-contents .venv/dist/*.whl
	$(BIN)/pyroma --min 10 .venv/dist/*.tar.gz

bench: .venv/airflow-$(AIRFLOW)/ready ## print the table in tests/benchmarks/README.md
	$(UV) pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python -m tests.benchmarks

# uv comes through pip into a folder of its own: nothing else is asked of the machine's Python, not even venv.
$(UV):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .venv/tools uv

define environment
@echo "Making the environment $(@D)"
$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(@D)
endef

.venv/airflow-%/ready: pyproject.toml $(UV)
	$(environment)
	$(INSTALL) "apache-airflow$(or $(IS_$*),==$*)" $(PINS_$*) --group lint --group test $(if $(filter $(AIRFLOW),$*),--group deployments) --editable .
	touch $@

# The tools of the tests must not lift what they test.
.venv/lowest/ready: pyproject.toml $(UV)
	$(environment)
	$(INSTALL) --resolution lowest-direct "apache-airflow==$(LOWEST)" $(PINS_$(LOWEST)) --editable .
	$(UV) pip freeze --quiet --python $(@D)/bin/python --exclude-editable > $(@D)/lowest.txt
	$(INSTALL) --constraint $(@D)/lowest.txt --group test --editable .
	touch $@

.venv/image/ready: pyproject.toml $(UV)
	$(environment)
	$(INSTALL) "apache-airflow==$(AIRFLOW)" --group image --group test --editable .
	touch $@

# What people track with, beside nothing of ours. 2.3.4 imports pkg_resources.
.venv/codecarbon-%/ready: $(UV)
	$(environment)
	$(INSTALL) codecarbon$(if $(filter newest,$*),,==$*) "setuptools<81"
	touch $@

.PHONY: .venv/next/ready
.venv/next/ready: $(UV)
	$(environment)
	$(INSTALL) "apache-airflow>=3.4.0a0" "apache-airflow-core>=3.4.0a0" "apache-airflow-task-sdk>=1.4.0a0" --group test --editable .

clean: ## remove the environments, caches, and the demo's ledger and reports
	rm -rf .venv .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
