"""The project: settings, routing and the process that starts everything else."""

import time

# Start-up times are counted from here, before Django and the rest are imported.
STARTED_AT = time.monotonic()
__version__ = "0.1.0"
