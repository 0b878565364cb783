# What a newcomer needs is `make demo` and `make test`. Everything is made on the way, below .venv.
PYTHON ?= python3
AIRFLOW ?= 3.3.2
OLDER_AIRFLOWS := 3.2.2 3.1.8
# With a later one, Airflow 3.2.2 can't make its own API; 3.3.2 says so itself.
PINS_3.2.2 := "fastapi<0.137"

export CHROMIUM ?= /usr/bin/chromium
export NGINX ?= .venv/tools/nginx/usr/sbin/nginx
export MARIADBD ?= /usr/sbin/mariadbd
export REDIS_SERVER ?= /usr/bin/redis-server

UV := .venv/tools/bin/uv
BIN := .venv/airflow-$(AIRFLOW)/bin
export UV_PYTHON_DOWNLOADS := never

.PHONY: demo test test-older lint bench clean
.DELETE_ON_ERROR:
.SECONDARY:

demo: .venv/airflow-$(AIRFLOW)/ready ## run the whole pipeline on a real Airflow and the sandbox; KEEP=1 leaves it running
	$(BIN)/python -m tests.e2e.demo $(if $(KEEP),--keep)

test: .venv/airflow-$(AIRFLOW)/ready $(CHROMIUM) $(NGINX) $(MARIADBD) $(REDIS_SERVER) test-older ## all tests on $(AIRFLOW), most of them on the older versions
	$(BIN)/python -m pytest

test-older: $(OLDER_AIRFLOWS:%=test-on-%)

test-on-%: .venv/airflow-%/ready $(CHROMIUM) $(MARIADBD)
	.venv/airflow-$*/bin/python -m pytest tests/unit tests/integration tests/e2e/test_every_version.py

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

lint: .venv/airflow-$(AIRFLOW)/ready ## ruff, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/airflow-$(AIRFLOW)/ready ## print the README's benchmark table
	$(UV) pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python -m tests.benchmarks

# uv comes through pip into a folder of its own: nothing else is asked of the machine's Python, not even venv.
$(UV):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .venv/tools uv

.venv/airflow-%/ready: pyproject.toml $(UV)
	@echo "Making the environment for Airflow $* in .venv/airflow-$*"
	$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv/airflow-$*
	$(UV) pip install --quiet --python .venv/airflow-$*/bin/python "apache-airflow==$*" $(PINS_$*) --group lint --group test --editable .
	touch $@

clean: ## remove the environments, caches, and the demo's ledger and reports
	rm -rf .venv .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
