"""`python -m ugejax`, the same as the `ugejax` command."""

import sys

from ugejax.app.cli import main

sys.exit(main())
