"""What holds for all tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: it and what it starts keep to a core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
