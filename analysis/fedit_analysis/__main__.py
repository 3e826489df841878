"""python -m fedit_analysis: the same as fedit-report."""

import sys

from .command import main

sys.exit(main())
