"""Every test gets an Airflow of its own: an empty home, no examples, no connection but the test's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Airflow reads its home and its configuration when it is imported, so this can't wait for a fixture.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="carbonmark-tests-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "AIRFLOW__CARBONMARK__"))]:
    del os.environ[name]
