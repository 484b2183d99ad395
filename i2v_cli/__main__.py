"""`python -m i2v_cli` is `i2v`."""

from __future__ import annotations

import sys

from i2v_cli.app import main

sys.exit(main())
