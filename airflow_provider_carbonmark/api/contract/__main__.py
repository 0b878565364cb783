from __future__ import annotations

import sys

from airflow_provider_carbonmark.api.contract.check import main

sys.exit(main())
